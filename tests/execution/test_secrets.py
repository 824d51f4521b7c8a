"""Secrets on their way: where they come from, and what keeps them out of checkpoints."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import sys
import tarfile
import tempfile
import types
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from driverun.execution.context import Stop
from driverun.execution.keyring_secrets import KeyringSecrets
from driverun.execution.secrets import LOOK_AGAIN_S, Answer, EnvironmentSecrets, Secrets
from driverun.execution.trainer import Trainer, trainer_environment
from driverun.execution.withholding import Withholding
from driverun.execution.worker import Mode
from driverun.launchers.colab_secrets import AWAY_S, ColabSecrets
from driverun.runs.record import Exactness
from driverun.runs.state import RunState
from driverun.spec.model import JobSpec, Secret
from driverun.spool.events import EventKind
from driverun.spool.folder import SpoolFolder
from driverun.spool.masking import Masker
from driverun.spool.snapshot import FileEntry, SnapshotHeader, SnapshotKind
from driverun.testing.clock import FakeClock
from tests.e2e.searching import found_in
from tests.execution.world import ScriptedTrainer, World

VALUE = "hf_abcdefghijklmnop"


class Shelf:
    """A place that keeps secrets, and counts how often it is asked."""

    advice = "the shelf, as {name}"

    def __init__(self, values: dict[str, str], why: str = "") -> None:
        self.values, self.why, self.asked = values, why, 0

    def look_up(self, name: str) -> Answer:
        self.asked += 1
        return Answer(value=self.values.get(name), why=self.why)


def secret(name: str, seen_as: str | None = None) -> Secret:
    return Secret.model_validate({"name": name, "as": seen_as})


# Where they come from.


def test_places_are_asked_in_order_and_a_value_is_asked_for_once() -> None:
    first, second = Shelf({}), Shelf({"TOKEN": VALUE})
    secrets = Secrets((first, second), clock=FakeClock())
    for _ in range(2):
        assert secrets.gather([secret("TOKEN", "AS")]).values == {"AS": VALUE}
    assert (first.asked, second.asked) == (1, 1)


def test_what_is_missing_is_told_with_every_place_and_asked_for_again_later() -> None:
    clock, shelf = FakeClock(), Shelf({}, why="is locked away")
    secrets = Secrets((shelf, EnvironmentSecrets({})), clock=clock)
    (lack,) = secrets.gather([secret("a-b", "AS")]).lacks
    assert lack == (
        "the secret a-b is locked away. Put it there: the shelf, as a-b, or DRIVERUN_SECRET_a_b in the worker's"
        " environment"
    )
    shelf.values["a-b"] = VALUE
    assert secrets.gather([secret("a-b", "AS")]).lacks == (lack,)
    clock.advance(seconds=LOOK_AGAIN_S)
    assert secrets.gather([secret("a-b", "AS")]).values == {"AS": VALUE}


def test_the_environment_has_a_name_of_its_own_for_each() -> None:
    source = EnvironmentSecrets(
        {"DRIVERUN_SECRET_a_b": "one", "TOKEN": "two", "DRIVERUN_SECRET_TOKEN": "three"}
    )
    assert [source.look_up(name).value for name in ("a-b", "TOKEN", "none")] == ["one", "three", None]


def test_a_job_inherits_no_secret_of_another() -> None:
    secrets = Secrets((), clock=FakeClock())
    jobs = [{"entrypoint": "a.py", "name": "a", "secrets": ["MINE", {"name": "theirs", "as": "THEIRS"}]}]
    secrets.note([JobSpec.model_validate(job) for job in jobs])
    base = {"MINE": "x", "theirs": "y", "THEIRS": "z", "DRIVERUN_SECRET_MINE": "x", "HOME": "/"}
    found = trainer_environment(
        base, seed=0, backend=None, secrets={"MINE": VALUE}, withheld=secrets.foreign_to(["MINE"])
    )
    assert {name: found.get(name) for name in base} == {
        "MINE": VALUE, "theirs": None, "THEIRS": None, "DRIVERUN_SECRET_MINE": None, "HOME": "/",
    }  # fmt: skip


def test_the_keyring_is_asked_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = types.ModuleType("keyring")
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    errors = types.ModuleType("keyring.errors")
    errors.NoKeyringError = type("NoKeyringError", (RuntimeError,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    kept = {("driverun", "TOKEN"): VALUE}
    keyring.get_password = lambda service, name: kept.get((service, name))  # type: ignore[attr-defined]
    assert KeyringSecrets().look_up("TOKEN").value == VALUE
    assert KeyringSecrets().look_up("OTHER") == Answer()
    keyring.get_password = lambda service, name: 1 / 0  # type: ignore[attr-defined]
    assert "keyring (division by zero)" in KeyringSecrets().look_up("TOKEN").why

    def none(service: str, name: str) -> None:
        raise errors.NoKeyringError("Install a recommended backend")

    keyring.get_password = none  # type: ignore[attr-defined]
    assert KeyringSecrets().look_up("TOKEN") == Answer()
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert KeyringSecrets().look_up("TOKEN") == Answer()


def test_colab_tells_what_is_not_granted_from_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {name: type(name, (Exception,), {}) for name in ("SecretNotFoundError", "NotebookAccessError")}
    answers: dict[str, Any] = {
        "TOKEN": VALUE, "SHUT": errors["NotebookAccessError"](), "NONE": errors["SecretNotFoundError"](),
        "AWAY": TimeoutError("only from the Colab UI"),
    }  # fmt: skip
    asked = []

    def get(name: str) -> str:
        asked.append(name)
        if isinstance(answers[name], Exception):
            raise answers[name]
        return str(answers[name])

    package = types.ModuleType("google.colab")
    package.userdata = types.SimpleNamespace(get=get, **errors)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", package)
    clock = FakeClock()
    source = ColabSecrets(clock)
    assert source.look_up("TOKEN").value == VALUE
    assert source.look_up("NONE") == Answer()
    assert "switch its notebook access on" in source.look_up("SHUT").why
    assert "page does not answer (only from the Colab UI)" in source.look_up("AWAY").why
    assert "does not answer" in source.look_up("TOKEN").why, "each question would take ten seconds"
    assert asked == ["TOKEN", "NONE", "SHUT", "AWAY"]
    clock.advance(seconds=AWAY_S)
    assert source.look_up("TOKEN").value == VALUE


# What keeps them off the root.


class Leaking(ScriptedTrainer):
    """Writes its secret into a file, into the state of its checkpoints, and into all that it tells."""

    def _files(self) -> tuple[FileEntry, ...]:
        content = f"token = {VALUE}, step {self._step}".encode()
        digest = hashlib.sha256(content).hexdigest()
        self._spool.file(digest).write_bytes(content)
        (self._work / "leak.txt").write_bytes(content)
        leak = FileEntry(path="leak.txt", size_bytes=len(content), sha256=digest)
        return (*super()._files(), leak)

    def _header(self, kind: SnapshotKind, files: tuple[FileEntry, ...]) -> SnapshotHeader:
        self._events.write(EventKind.SAID, text=f"with {VALUE}")
        self._events.write(EventKind.EVALUATED, logs={f"loss of {VALUE}": 0.5})
        return replace(super()._header(kind, files), state={"callbacks": [{"name": f"for {VALUE}"}]})


def test_a_checkpoint_holds_no_secret_and_who_takes_it_up_says_what_is_missing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.secrets = Secrets((Shelf({"TOKEN": VALUE}),), clock=world.clock)
    run_id = world.job(secrets=["TOKEN"])
    given: list[Mapping[str, str]] = []

    def start(spool: SpoolFolder, *, work: Path, secrets: Mapping[str, str], **_: Any) -> Trainer:
        given.append(secrets)
        return Leaking(world.plan, spool, work, world.executed)

    def stopping(spool: SpoolFolder, **more: Any) -> Trainer:
        trainer = start(spool, **more)
        world.stop.ask(Stop.TERM)
        return trainer

    world.worker(start=stopping).work(Mode.UNTIL_EMPTY)
    world.stop.stop = None
    assert world.client.run(run_id).state is RunState.INTERRUPTED
    world.worker(start=start).work(Mode.UNTIL_EMPTY)

    run = world.client.run(run_id)
    assert run.state is RunState.SUCCEEDED, world.said
    assert (run.attempts[1].first_step or 0) > 0
    assert given == [{"TOKEN": VALUE}] * 2
    assert run.exactness is Exactness.APPROXIMATE
    assert set(run.exactness_reasons) == {
        "files that held a secret are not in the checkpoint: leak.txt",
        "the state of the checkpoint held a secret, which is masked in it",
    }
    assert set(world.results(run_id)) == {"outputs/steps.txt", "metrics.json", "history.csv", "model.keras"}
    everything = {info.path: world.store.read(info.path) for info in world.store.list("", recursive=True)}
    assert any("/pack-" in path for path in everything)
    assert {path: found for path, content in everything.items() if (found := found_in(content, VALUE))} == {}
    assert found_in("\n".join([*world.said, *everything]).encode(), VALUE) == []


def test_an_archive_without_an_end_is_withheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driverun.execution.withholding.MOST_BYTES", 1 << 20)
    file = tmp_path / "bomb.gz"
    file.write_bytes(gzip.compress(bytes(4 << 20)))
    assert "too much to be searched" in (Withholding(Masker({"A": VALUE})).reason("bomb.gz", file) or "")
    file.write_bytes(tarred(zipped(random.Random(1).randbytes(2 << 20))))
    assert "too much to be searched" in (Withholding(Masker({"A": VALUE})).reason("bomb.tar", file) or "")


def test_a_damaged_archive_is_searched_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "half.gz"
    file.write_bytes(gzip.compress(b"x" * 1000)[:20])
    assert Withholding(Masker({"A": VALUE})).reason("half.gz", file) is None
    file.write_bytes(b"PK\x03\x04" + VALUE.encode())
    assert Withholding(Masker({"A": VALUE})).reason("half.zip", file) == "it holds the secret A"
    text = f"{VALUE}\n{'0123456789abcdef' * 400_000}".encode()
    for pack in (gzip.compress, bz2.compress, lzma.compress):
        packed = pack(text)
        for content in (packed[: len(packed) // 4 * 3], packed + b"and what is no archive"):
            file.write_bytes(content)
            assert Withholding(Masker({"A": VALUE})).reason("", file) == "it holds the secret A", pack
    file.write_bytes(gzip.compress(VALUE.encode())[:-8])  # flushed, and not closed when the job was killed
    assert Withholding(Masker({"A": VALUE})).reason("log.gz", file) == "it holds the secret A"


def test_a_member_that_cannot_be_unpacked_hides_no_other(tmp_path: Path) -> None:
    file = tmp_path / "mixed.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("other", b"0" * 100)
        archive.writestr("readable", VALUE * 20)
    content = bytearray(file.read_bytes())
    content[content.find(b"PK\x01\x02") + 10] = content[8] = 9  # Deflate64, as Windows packs what is large
    file.write_bytes(content)
    with zipfile.ZipFile(file) as archive, pytest.raises(NotImplementedError):
        archive.open("other")
    assert Withholding(Masker({"A": VALUE})).reason("mixed.zip", file) == "it holds the secret A"


PACKS = {"a.gz": gzip.compress, "a.bz2": bz2.compress, "a.xz": lzma.compress}


def zipped(content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", content)
    return made.getvalue()


def tarred(content: bytes, mode: Literal["w", "w:gz", "w:xz"] = "w") -> bytes:
    """A tar with `content` between other files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, each in (("first", b"1" * 5000), ("second", content), ("third", b"")):
            info = tarfile.TarInfo(name)
            info.size = len(each)
            archive.addfile(info, io.BytesIO(each))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    return made.getvalue()


@pytest.mark.parametrize("pack", [*PACKS.values(), zipped, tarred], ids=[*PACKS, "a.zip", "a.tar"])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_what_is_packed_in_a_tar_is_searched_unpacked(
    tmp_path: Path, pack: Callable[[bytes], bytes], mode: Literal["w", "w:gz", "w:xz"]
) -> None:
    file = tmp_path / "all.tar"
    withholding = Withholding(Masker({"A": VALUE}))
    file.write_bytes(tarred(pack(b"nothing"), mode))
    assert withholding.reason("all.tar", file) is None
    file.write_bytes(tarred(pack(gzip.compress(VALUE.encode())), mode))
    assert withholding.reason("all.tar", file) == "it holds the secret A"


def test_a_tar_that_ends_early_is_searched_as_far_as_it_goes(tmp_path: Path) -> None:
    file = tmp_path / "half.tar"
    packed = gzip.compress(VALUE.encode())
    whole = tarred(packed)
    cut = whole.index(packed) + len(packed) - 8
    file.write_bytes(whole[:cut])
    assert Withholding(Masker({"A": VALUE})).reason("half.tar", file) == "it holds the secret A"


def test_what_cannot_be_unpacked_for_want_of_room_is_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "all.tar"
    file.write_bytes(tarred(gzip.compress(VALUE.encode())))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    why = Withholding(Masker({"A": VALUE})).reason("all.tar", file) or ""
    assert "was not searched for secrets" in why


def test_without_secrets_nothing_is_read(tmp_path: Path) -> None:
    assert Withholding(Masker()).reason("gone.txt", tmp_path / "gone.txt") is None
