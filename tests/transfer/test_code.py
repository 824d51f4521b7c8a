import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from driverun.errors import DriverunError, IntegrityError, ObjectNotFound, UnsafePath, UsageError
from driverun.runs import layout
from driverun.spec.identity import code_sha256_of
from driverun.storage.base import ObjectStore
from driverun.transfer import code
from driverun.transfer.code import (
    JobFile,
    JobFiles,
    capture_code,
    pack_code,
    place_job,
    read_job_folder,
    read_job_on_root,
    unpack_code,
)
from tests.transfer.conftest import MakeStore
from tests.transfer.worlds import contents, fill, stores_after_each_crash

SOURCES: dict[str, str | bytes] = {
    "job.yaml": "entrypoint: train.py\n",
    "train.py": "print('hi')\n",
    "package/part.py": "X = 1\n",
    "package/run.sh": "#!/bin/sh\necho hi\n",
    "package/job.yaml": "not the job file\n",
}
CODE = ["package/job.yaml", "package/part.py", "package/run.sh", "train.py"]


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return fill(tmp_path / "mnist", SOURCES)


def job_files(**files: bytes) -> JobFiles:
    return JobFiles(files={path: JobFile.of(content) for path, content in files.items()})


def test_a_job_folder_is_read_without_what_is_no_code(job: Path) -> None:
    fill(
        job,
        {
            ".git/config": "",
            ".hidden": "",
            "package/.cache/x": "",
            "__pycache__/a.pyc": "",
            "package/__pycache__/a.pyc": "",
            "old.pyc": "",
            "venv/bin/python": "",
            "node_modules/x.js": "",
        },
    )
    files = read_job_folder(job)
    assert sorted(files.files) == CODE
    assert files.size_bytes == sum(len(SOURCES[path]) for path in CODE)
    assert files.code_sha256 == code_sha256_of(
        {path: (file.sha256, path.endswith(".sh")) for path, file in files.files.items()}
    )


def test_a_lone_job_is_only_the_files_that_are_named(job: Path, store: ObjectStore) -> None:
    only = ("train.py", "missing.py")
    assert list(read_job_folder(job, only=only).files) == ["train.py"]
    place_job(store, job, "mnist")
    assert list(read_job_on_root(store, "jobs/mnist", only=only).files) == ["train.py"]
    with pytest.raises(UnsafePath):
        read_job_folder(job, only=["../mnist/train.py"])


def test_the_same_job_has_the_same_digest_here_and_on_the_root(job: Path, store: ObjectStore) -> None:
    (job / "train.py").chmod(0o755)  # a root keeps no modes, so they are not part of the code
    place_job(store, job, "mnist")
    store.create("jobs/mnist/.DS_Store", b"")
    here, there = read_job_folder(job), read_job_on_root(store, "jobs/mnist")
    assert here == there
    assert here.code_sha256 == there.code_sha256


def test_links_within_the_folder_are_followed_and_never_in_circles(job: Path) -> None:
    (job / "alias.py").symlink_to("train.py")
    (job / "again").symlink_to("package")
    (job / "package" / "up").symlink_to("..")
    found = read_job_folder(job).files
    assert found["alias.py"] == found["train.py"]
    assert found["again/part.py"] == found["package/part.py"]
    assert not any("up/" in path for path in found)


@pytest.mark.parametrize("only", [None, ("stolen.py",)])
def test_a_link_that_leaves_the_folder_is_refused(job: Path, only: tuple[str, ...] | None) -> None:
    secret = job.parent / "secret"
    secret.write_text("key")
    (job / "stolen.py").symlink_to(secret)
    with pytest.raises(UnsafePath, match=r"stolen\.py: it is a link to .*secret, outside"):
        read_job_folder(job, only=only)


def test_a_link_to_nothing_a_pipe_and_an_odd_name(job: Path) -> None:
    os.mkfifo(job / "pipe")
    assert sorted(read_job_folder(job).files) == CODE
    (job / "gone.py").symlink_to("nothing.py")
    with pytest.raises(UnsafePath, match="leads nowhere"):
        read_job_folder(job)
    (job / "gone.py").unlink()
    (job / "back\\slash.py").write_text("")
    with pytest.raises(UnsafePath, match="backslash"):
        read_job_folder(job)
    with pytest.raises(UsageError, match="no such folder"):
        read_job_folder(job / "nowhere")


@pytest.mark.skipif(os.name != "posix", reason="other systems refuse such names themselves")
def test_a_name_that_is_no_unicode_is_refused(job: Path) -> None:
    Path(os.fsdecode(os.fsencode(job) + b"/\xff.py")).write_text("")
    with pytest.raises(UnsafePath, match="not Unicode"):
        read_job_folder(job)


def test_too_much_for_code_is_told_where_data_belongs(
    job: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_job(store, job, "mnist")
    monkeypatch.setattr(code, "MAX_BYTES", 40)
    with pytest.raises(UsageError, match=r"largest file is package/run\.sh .*\n?.*Data belongs in data/"):
        read_job_folder(job)
    with pytest.raises(UsageError, match="Data belongs in data/"):
        read_job_on_root(store, "jobs/mnist")
    monkeypatch.setattr(code, "MAX_BYTES", 10**6)
    monkeypatch.setattr(code, "MAX_FILES", 3)
    with pytest.raises(UsageError, match="holds 4 files, 3 are the most"):
        read_job_folder(job)


def test_a_packed_job_comes_back_as_it_was(job: Path, store: ObjectStore, tmp_path: Path) -> None:
    files = read_job_folder(job)
    digest = capture_code(store, files)
    assert digest == files.code_sha256
    assert list(contents(store)) == [layout.code_file(digest)]
    target = tmp_path / "work"
    target.mkdir()
    (target / "train.py").symlink_to(job / "train.py")
    delivered = unpack_code(store, digest, target)
    assert delivered == {path: file.sha256 for path, file in files.files.items()}
    assert read_job_folder(target) == files
    assert not (target / "train.py").is_symlink()
    assert stat.S_IMODE((target / "package/run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((target / "train.py").stat().st_mode) == 0o644


def test_packing_is_a_function_of_the_files_alone() -> None:
    one, two = JobFile.of(b"1"), JobFile.of(b"#!2")
    packed = pack_code(JobFiles(files={"a.py": one, "b/c.py": two}))
    assert packed == pack_code(JobFiles(files={"b/c.py": two, "a.py": one}))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert [(each.filename, each.date_time[0]) for each in archive.infolist()] == [
            ("a.py", 1980),
            ("b/c.py", 1980),
        ]


def test_capturing_again_changes_nothing_but_mends_a_damaged_copy(job: Path, store: ObjectStore) -> None:
    files = read_job_folder(job)
    path = layout.code_file(capture_code(store, files))
    before = store.stat(path)
    capture_code(store, files)
    assert store.stat(path) == before
    good = store.read(path)
    store.replace(path, good[:-10])
    capture_code(store, files)
    assert store.read(path) == good


def test_damaged_code_is_never_unpacked(job: Path, store: ObjectStore, tmp_path: Path) -> None:
    files = read_job_folder(job)
    digest = capture_code(store, files)
    path = layout.code_file(digest)
    good = store.read(path)
    target = tmp_path / "work"
    damaged = [
        good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :] for position in range(len(good))
    ]
    for content in [b"", good[: len(good) // 2], *damaged]:
        store.replace(path, content)
        try:
            unpack_code(store, digest, target)
        except IntegrityError:
            assert not target.exists()
        else:  # a byte that means nothing: a date, a comment, a spare field
            assert read_job_folder(target) == files
            for left in sorted(target.rglob("*"), reverse=True):
                left.rmdir() if left.is_dir() else left.unlink()
            target.rmdir()


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "a/../../evil.py", "a\\b.py", ""])
def test_a_zip_that_writes_elsewhere_is_refused(name: str, store: ObjectStore, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    digest = code_sha256_of({name: (JobFile.of(b"x").sha256, False)})
    store.create(layout.code_file(digest), packed.getvalue())
    with pytest.raises(IntegrityError):
        unpack_code(store, digest, tmp_path / "work")
    assert sorted(each.name for each in tmp_path.iterdir() if "root" not in each.name) == []


def test_a_zip_that_is_odd_is_refused(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = {"a": JobFile.of(b"x"), "a/b": JobFile.of(b"y")}
    digest = capture_code(store, JobFiles(files=odd))
    with pytest.raises(IntegrityError, match="name of a folder"):
        unpack_code(store, digest, tmp_path / "work")
    digest = capture_code(store, job_files(large=b"x" * 1000))
    monkeypatch.setattr(code, "MAX_BYTES", 999)
    with pytest.raises(IntegrityError, match="larger than code may be"):
        unpack_code(store, digest, tmp_path / "work")


def test_other_code_under_the_name_is_refused(store: ObjectStore, tmp_path: Path) -> None:
    store.create(layout.code_file("0" * 64), pack_code(job_files(a=b"1")))
    with pytest.raises(IntegrityError, match="other code than its name says"):
        unpack_code(store, "0" * 64, tmp_path / "work")
    with pytest.raises(ObjectNotFound):
        unpack_code(store, "1" * 64, tmp_path / "work")


def test_any_crash_while_capturing_is_survived(make_store: MakeStore, job: Path) -> None:
    files = read_job_folder(job)
    expected = {layout.code_file(files.code_sha256): pack_code(files)}
    for store in stores_after_each_crash(make_store, lambda store: capture_code(store, files)):
        assert contents(store) == expected


def test_placing_a_job_brings_it_up_to_date_and_leaves_foreign_files(job: Path, store: ObjectStore) -> None:
    place_job(store, job, "mine")
    assert contents(store) == {
        f"jobs/mine/{path}": str(SOURCES[path]).encode() for path in ["job.yaml", *CODE]
    }
    store.create("jobs/mine/notes.txt", b"a person's")
    untouched = store.stat("jobs/mine/package/part.py")
    (job / "train.py").write_text("print('ho')\n")
    place_job(store, job, "mine")
    assert store.read("jobs/mine/train.py") == b"print('ho')\n"
    assert store.read("jobs/mine/notes.txt") == b"a person's"
    assert store.stat("jobs/mine/package/part.py") == untouched


def test_a_lone_job_is_placed_as_a_folder(job: Path, store: ObjectStore) -> None:
    (job / "small.yaml").write_text("entrypoint: train.py")
    place_job(store, job, "small", job_file="small.yaml", only=["train.py", "small.yaml"])
    assert list(contents(store)) == ["jobs/small/job.yaml", "jobs/small/train.py"]
    assert store.read("jobs/small/job.yaml") == b"entrypoint: train.py"


@pytest.mark.parametrize("name", ["a/b", "..", "", "a\n"])
def test_a_job_is_placed_under_a_plain_name_only(name: str, job: Path, store: ObjectStore) -> None:
    with pytest.raises(UnsafePath):
        place_job(store, job, name)
    assert contents(store) == {}


def test_a_folder_without_a_job_file_is_not_placed(job: Path, store: ObjectStore) -> None:
    with pytest.raises(DriverunError, match=r"it has no other\.yaml"):
        place_job(store, job, "mine", job_file="other.yaml")


def test_any_crash_while_placing_is_survived_and_the_job_file_comes_last(
    make_store: MakeStore, job: Path
) -> None:
    expected = {f"jobs/m/{path}": str(SOURCES[path]).encode() for path in ["job.yaml", *CODE]}
    for store in stores_after_each_crash(make_store, lambda store: place_job(store, job, "m")):
        assert contents(store) == expected
        newest = max(store.list("jobs/m", recursive=True), key=lambda info: info.created_at)
        assert newest.path == "jobs/m/job.yaml"
