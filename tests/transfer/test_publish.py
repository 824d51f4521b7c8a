import json
import zipfile
from pathlib import Path

import pytest

from driverun.errors import IntegrityError, LostOwnership, ObjectNotFound, UnsafePath, UsageError
from driverun.runs.layout import AttemptKey
from driverun.storage.base import ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore
from driverun.transfer import publish
from driverun.transfer.checksums import sha256_of
from driverun.transfer.fetch import ResultReader, fetch_results
from driverun.transfer.progress import Progress
from driverun.transfer.publish import publish_results
from driverun.transfer.results import ResultFile, ResultsManifest, read_results_manifest
from tests.transfer.conftest import MakeStore
from tests.transfer.worlds import contents, fill, stores_after_each_crash

KEY = AttemptKey(run_id="mnist-0123456789ab", number=2, worker="w0rker")
FOLDER = KEY.results_folder
SUMMARY = {"metrics": {"fit.loss": 0.5}, "state_sha256": None}
WRITTEN: dict[str, str | bytes] = {
    "metrics.json": "{}",
    "plots/loss.png": b"\x89PNG",
    "model.keras": b"\0" * 5000,
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    folder = fill(tmp_path / "work", WRITTEN)
    return {path: folder / path for path in WRITTEN}


def ours() -> None:
    """The run is still ours."""


def test_results_are_published_and_come_back(
    store: ObjectStore, files: dict[str, Path], tmp_path: Path
) -> None:
    told: list[Progress] = []
    ref = publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY, on_progress=told.append)
    assert ref.path == FOLDER
    assert ref.created_at == store.stat(KEY.results_manifest).created_at
    assert [each.done_files for each in told] == [1, 2, 3]
    assert told[-1].done_bytes == told[-1].total_bytes == 5006
    manifest = read_results_manifest(store, FOLDER)
    assert manifest.key == KEY
    assert manifest.summary == SUMMARY
    assert [(file.path, file.size_bytes) for file in manifest.files] == [
        ("metrics.json", 2),
        ("model.keras", 5000),
        ("plots/loss.png", 4),
    ]
    dest = tmp_path / "here"
    assert fetch_results(store, FOLDER, dest) == [dest / file.path for file in manifest.files]
    assert sorted(each.name for each in dest.iterdir()) == ["metrics.json", "model.keras", "plots"]
    assert (dest / "plots/loss.png").read_bytes() == b"\x89PNG"


def test_the_manifest_comes_last_and_only_while_the_run_is_ours(
    store: ObjectStore, files: dict[str, Path]
) -> None:
    def superseded() -> None:
        assert sorted(contents(store)) == sorted(f"{FOLDER}/{path}" for path in files)
        raise LostOwnership("another worker owns it")

    with pytest.raises(LostOwnership):
        publish_results(store, KEY, files, still_ours=superseded, summary=SUMMARY)
    with pytest.raises(ObjectNotFound):
        read_results_manifest(store, FOLDER)


def test_no_files_are_results_too(store: ObjectStore, tmp_path: Path) -> None:
    publish_results(store, KEY, {}, still_ours=ours, summary={})
    assert read_results_manifest(store, FOLDER).files == ()
    assert fetch_results(store, FOLDER, tmp_path / "here") == []


def test_a_half_try_with_other_bytes_is_replaced(store: ObjectStore, files: dict[str, Path]) -> None:
    store.create(f"{FOLDER}/metrics.json", b"[]")
    store.create(f"{FOLDER}/model.keras", b"\0" * 5000)
    publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    assert store.read(f"{FOLDER}/metrics.json") == b"{}"


def test_what_is_committed_stays(store: ObjectStore, files: dict[str, Path]) -> None:
    first = publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    before = contents(store)
    files["metrics.json"].write_text("{'later': 1}")
    assert publish_results(store, KEY, files, still_ours=ours, summary={}) == first
    assert contents(store) == before


def test_a_damaged_manifest_is_written_again(store: ObjectStore, files: dict[str, Path]) -> None:
    publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    good = store.read(KEY.results_manifest)
    store.replace(KEY.results_manifest, good[:-20])
    publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    assert store.read(KEY.results_manifest) == good


def test_any_crash_is_survived(make_store: MakeStore, files: dict[str, Path]) -> None:
    reference = make_store()
    publish_results(reference, KEY, files, still_ours=ours, summary=SUMMARY)
    expected = contents(reference)
    for store in stores_after_each_crash(
        make_store, lambda store: publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    ):
        assert contents(store) == expected


def test_many_single_files_are_sent_several_at_a_time(clock: FakeClock, tmp_path: Path) -> None:
    folder = fill(tmp_path / "many", {f"{number}.txt": str(number) for number in range(40)})
    many = {file.name: file for file in folder.iterdir()}
    for store in stores_after_each_crash(
        lambda: MemoryStore(clock),
        lambda store: publish_results(store, KEY, many, still_ours=ours, summary=SUMMARY),
    ):
        assert len(contents(store)) == 41
        assert len(read_results_manifest(store, FOLDER).files) == 40


@pytest.mark.parametrize("path", ["../out", "/out", "a//b", ""])
def test_a_path_that_leaves_the_results_is_refused_before_anything_is_sent(
    path: str, store: ObjectStore, files: dict[str, Path]
) -> None:
    with pytest.raises(UnsafePath):
        publish_results(store, KEY, {**files, path: files["metrics.json"]}, still_ours=ours, summary={})
    assert contents(store) == {}


def test_many_files_travel_in_one_archive(
    make_store: MakeStore, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MOST_SINGLE_FILES", 2)
    for store in stores_after_each_crash(
        make_store, lambda store: publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    ):
        assert sorted(contents(store)) == [
            f"{FOLDER}/manifest.json",
            f"{FOLDER}/metrics.json",
            f"{FOLDER}/mnist-0123456789ab.zip",
            f"{FOLDER}/model.keras",
        ]
    manifest = read_results_manifest(store, FOLDER)
    assert manifest.archive is not None
    assert sorted(file.path for file in manifest.stored) == [
        "metrics.json",
        "mnist-0123456789ab.zip",
        "model.keras",
    ]
    assert [file.path for file in manifest.files] == sorted(files)
    dest = tmp_path / "here"
    fill(dest, {"metrics.json": "{}"})
    places = fetch_results(store, FOLDER, dest)
    assert {str(place.relative_to(dest)): place.read_bytes() for place in places} == {
        path: file.read_bytes() for path, file in files.items()
    }
    assert len(list(dest.iterdir())) == 3


@pytest.mark.parametrize("name", ["manifest.json", "mnist-0123456789ab.zip", "manifest.json/inner"])
def test_names_of_driveruns_own_are_kept_in_the_archive(
    name: str, store: ObjectStore, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    publish_results(store, KEY, {name: mine}, still_ours=ours, summary={})
    assert read_results_manifest(store, FOLDER).archive is not None
    fetch_results(store, FOLDER, tmp_path / "here")
    assert (tmp_path / "here" / name).read_text() == "mine"


@pytest.mark.parametrize("most", [300, 2, 0])
def test_single_results_are_read_wherever_they_lie(
    most: int, store: ObjectStore, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MOST_SINGLE_FILES", most)
    publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    manifest = read_results_manifest(store, FOLDER)
    faulty = FaultyStore(store)
    reader = ResultReader(faulty, FOLDER, manifest, tmp_path)
    for path, place in files.items():
        assert reader.read(path) == place.read_bytes()
    assert len([each for each in faulty.operations if each.name == "download"]) == (most < 3)
    for file in manifest.stored:
        store.replace(f"{FOLDER}/{file.path}", b"evil")
    scratch = tmp_path / "new"
    scratch.mkdir()
    for path in files:
        with pytest.raises(IntegrityError, match="damaged on the root"):
            ResultReader(store, FOLDER, manifest, scratch).read(path)


def test_a_manifest_of_before_has_all_in_its_archive() -> None:
    archive = ResultFile(path="outputs.zip", size_bytes=1, sha256="0" * 64)
    listed = ResultFile(path="a.txt", size_bytes=1, sha256="0" * 64)
    raw = json.loads(ResultsManifest(key=KEY, files=(listed,), archive=archive).to_bytes())
    del raw["manifest_sha256"], raw["beside"]
    compact = json.dumps(raw, sort_keys=True, separators=(",", ":"))
    read = ResultsManifest.from_bytes(
        json.dumps({**raw, "manifest_sha256": sha256_of(compact.encode())}).encode()
    )
    assert (read.single, read.stored) == ((), (archive,))


def test_any_damage_to_a_manifest_is_noticed(store: ObjectStore, files: dict[str, Path]) -> None:
    publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    good = store.read(KEY.results_manifest)
    whole = ResultsManifest.from_bytes(good)
    for position in range(len(good)):
        damaged = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
        try:
            assert ResultsManifest.from_bytes(damaged) == whole  # white space
        except IntegrityError:
            continue
    for content in (b"", b"[]", b"{}", b"null", b'{"manifest_sha256": 1}', good[:-9], b"[" * 100_000):
        with pytest.raises(IntegrityError):
            ResultsManifest.from_bytes(content)


def test_a_manifest_is_strict_about_its_version_and_lenient_about_new_fields() -> None:
    def signed(**changes: object) -> bytes:
        raw = json.loads(ResultsManifest(key=KEY, files=()).to_bytes())
        raw.pop("manifest_sha256")
        raw.update(changes)
        compact = json.dumps(raw, sort_keys=True, separators=(",", ":"))
        return json.dumps({**raw, "manifest_sha256": sha256_of(compact.encode())}).encode()

    assert ResultsManifest.from_bytes(signed(colour="green")).key == KEY
    with pytest.raises(IntegrityError, match="Install a newer one"):
        ResultsManifest.from_bytes(signed(schema_version=2))
    evil = [{"path": "../../evil", "size_bytes": 1, "sha256": ""}]
    with pytest.raises(IntegrityError, match="has to stay inside"):
        ResultsManifest.from_bytes(signed(files=evil))
    with pytest.raises(IntegrityError, match="not listed as a file"):
        ResultsManifest.from_bytes(signed(files=[{"path": 1, "size_bytes": 1, "sha256": ""}]))


def test_a_manifest_counts_only_where_it_was_written(store: ObjectStore) -> None:
    other = AttemptKey(run_id=KEY.run_id, number=3, worker="0ther")
    store.create(other.results_manifest, ResultsManifest(key=KEY, files=()).to_bytes())
    with pytest.raises(IntegrityError, match="copied here"):
        read_results_manifest(store, other.results_folder)


def test_equal_files_at_the_destination_stay_and_others_stop_it(
    store: ObjectStore, files: dict[str, Path], tmp_path: Path
) -> None:
    publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    dest = fill(tmp_path / "here", {"metrics.json": "{}", "model.keras": "mine", "plots": "a file"})
    with pytest.raises(UsageError, match=r"model\.keras, .*plots would be overwritten.*another DEST"):
        fetch_results(store, FOLDER, dest)
    assert sorted(each.name for each in dest.iterdir()) == ["metrics.json", "model.keras", "plots"]
    (dest / "model.keras").unlink()
    (dest / "plots").unlink()
    kept = (dest / "metrics.json").stat()
    fetch_results(store, FOLDER, dest)
    assert (dest / "metrics.json").stat().st_ino == kept.st_ino
    assert fetch_results(store, FOLDER, dest)  # nothing is left to do
    with pytest.raises(UsageError, match="it is a file"):
        fetch_results(store, FOLDER, dest / "metrics.json")


@pytest.mark.parametrize("most", [300, 0])
def test_a_damaged_result_is_never_written(
    most: int, store: ObjectStore, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "MOST_SINGLE_FILES", most)
    publish_results(store, KEY, files, still_ours=ours, summary=SUMMARY)
    victim = f"{FOLDER}/{'mnist-0123456789ab.zip' if most == 0 else 'metrics.json'}"
    good = store.read(victim)
    store.replace(victim, good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="damaged on the root"):
        fetch_results(store, FOLDER, tmp_path / "here")
    left = {each.name for each in (tmp_path / "here").iterdir()}
    assert left <= ({"plots", "model.keras"} if most else set())


def test_an_archive_without_what_the_manifest_lists_is_refused(
    store: ObjectStore, tmp_path: Path, clock: FakeClock
) -> None:
    packed = tmp_path / "outputs.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("unlisted", b"")
    whole = ResultFile(path="outputs.zip", size_bytes=packed.stat().st_size, sha256=sha256_of(packed))
    listed = ResultFile(path="a.txt", size_bytes=1, sha256="0" * 64)
    store.create(f"{FOLDER}/outputs.zip", packed)
    store.create(KEY.results_manifest, ResultsManifest(key=KEY, files=(listed,), archive=whole).to_bytes())
    with pytest.raises(IntegrityError, match=r"has no a\.txt"):
        fetch_results(store, FOLDER, tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []
