"""What runs in a notebook before there is a driverun."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from driverun.assembly import Surroundings, init_root, make_root, open_store
from driverun.launchers.bootstrap import NotReady, drive_session, install_release, prepare, wheel_of
from driverun.storage.drive.opening import ENDPOINT_VARIABLE, TOKEN_VARIABLE
from driverun.testing.clock import FakeClock
from driverun.testing.drive_emulator import DriveEmulator, Fault
from driverun.transfer.wheel import running_wheel
from tests.storage.drive.emulated import Person

ROOT = "gdrive:my jobs/l'été"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def emulator(tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[DriveEmulator]:
    with DriveEmulator(tmp_path / "drive", clock=clock) as emulator:
        monkeypatch.setenv(ENDPOINT_VARIABLE, emulator.url)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
        yield emulator


@pytest.fixture
def here(emulator: DriveEmulator, tmp_path: Path, clock: FakeClock) -> Surroundings:
    return Surroundings(
        environment={ENDPOINT_VARIABLE: emulator.url},
        cwd=tmp_path,
        home=tmp_path / "owner",
        clock=clock,
    )


def run_there(code: str) -> str:
    """What a child of the notebook prints: it has what `prepare` has set up in the environment."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.environ["HOME"]
    )
    return done.stdout.strip()


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`prepare` forgets the driverun that is loaded, which is the one that tests run with."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "driverun"}
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    yield
    sys.modules.update(before)


@pytest.mark.usefixtures("untouched")
def test_the_very_driverun_of_the_root_runs(here: Surroundings) -> None:
    made = init_root(ROOT, here)
    assert made.wheel is not None
    prepare(ROOT, "9.9")
    folder = Path(os.environ["HOME"], ".cache/driverun/packages", Path(made.wheel).stem)
    assert run_there("import driverun; print(driverun.__file__)") == str(folder / "driverun/__init__.py")
    assert sys.path[0] == str(folder)


@pytest.mark.usefixtures("untouched")
def test_a_second_run_brings_nothing_again(here: Surroundings, emulator: DriveEmulator) -> None:
    init_root(ROOT, here)
    prepare(ROOT, "9.9")
    brought = [each for each in emulator.requests if "alt=media" in each.query]
    prepare(ROOT, "9.9")
    assert [each for each in emulator.requests if "alt=media" in each.query] == brought
    assert os.environ["PYTHONPATH"].count("packages/driverun-") == 1


def test_the_newest_wheel_is_taken(here: Surroundings, clock: FakeClock) -> None:
    store, _ = make_root(ROOT, here)
    store.create(".driverun/wheels/driverun-0.1.0-0_0123456789abcdef-py3-none-any.whl", b"older")
    clock.sleep(60)
    store.create(".driverun/wheels/driverun-0.1.0-0_00112233445566aa-py3-none-any.whl", b"newer")
    store.create(".driverun/wheels/notes.txt", b"a person's")
    found = wheel_of(drive_session(), ROOT)
    assert found is not None
    assert found[1]() == b"newer"


def test_a_wheel_of_somebody_who_is_not_trusted_is_passed_over(
    here: Surroundings, emulator: DriveEmulator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = make_root(ROOT, here)
    (folder,) = [each for each in emulator.files() if each.title == "l'été"]
    for guest in ("friend@example.com", "stranger@example.com"):
        Person(emulator).share(folder.id, guest)
    address = f"gdrive://{folder.id}"
    clock.sleep(60)
    theirs = replace(here, environment={**here.environment, TOKEN_VARIABLE: "user:stranger@example.com"})
    init_root(address, theirs)
    for root in (ROOT, address):
        with pytest.raises(NotReady, match=r"put there by stranger@example\.com, who is"):
            wheel_of(drive_session(), root)
    assert wheel_of(drive_session(), ROOT, "x@y.zz, Stranger@example.com") is not None

    clock.sleep(60)
    store.create(".driverun/wheels/driverun-0.1.0-0_0123456789abcdef-py3-none-any.whl", b"the owner's")
    monkeypatch.setenv(TOKEN_VARIABLE, "user:friend@example.com")
    clock.sleep(60)
    open_store(address, theirs).replace(
        ".driverun/wheels/" + running_wheel().name, b"evil, and newer than the owner's"
    )
    found = wheel_of(drive_session(), address)
    assert found[1]() == b"the owner's", "for a guest as for the owner"


def test_a_root_may_be_named_by_its_id(here: Surroundings, emulator: DriveEmulator) -> None:
    init_root(ROOT, here)
    (folder,) = [each for each in emulator.files() if each.title == "l'été"]
    assert wheel_of(drive_session(), f"gdrive://{folder.id}") is not None


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("gdrive:no/such", "My Drive has no folder no/such"),
        ("gdrive://nosuchid", "this account sees no folder nosuchid"),
        ("/content/drive/MyDrive/jobs", "is no folder on Drive. Write gdrive:"),
        ("", "is no folder on Drive. Write gdrive:"),
    ],
)
def test_a_root_that_is_none_is_told(root: str, words: str) -> None:
    with pytest.raises(NotReady, match=words):
        prepare(root, "9.9")


@pytest.mark.usefixtures("untouched")
def test_a_wheel_that_arrives_damaged_is_not_used(here: Surroundings, emulator: DriveEmulator) -> None:
    init_root(ROOT, here)
    emulator.faults.add(Fault(kind="corrupt", times=1))
    with pytest.raises(NotReady, match="arrived damaged"):
        prepare(ROOT, "9.9")
    prepare(ROOT, "9.9")


def test_one_bad_answer_is_asked_again(here: Surroundings, emulator: DriveEmulator) -> None:
    init_root(ROOT, here)
    emulator.faults.add(Fault(kind="status:503", times=1))
    assert wheel_of(drive_session(), ROOT) is not None


def test_a_sign_in_that_ended_is_told(here: Surroundings, emulator: DriveEmulator) -> None:
    init_root(ROOT, here)
    emulator.faults.add(Fault(kind="status:401"))
    with pytest.raises(NotReady, match="Restart session"):
        prepare(ROOT, "9.9")


@pytest.mark.usefixtures("here")
def test_a_declined_consent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def declined() -> None:
        raise RuntimeError("credential propagation was unsuccessful")

    auth = types.ModuleType("google.colab.auth")
    auth.authenticate_user = declined  # type: ignore[attr-defined]
    colab = types.ModuleType("google.colab")
    colab.auth = auth  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    with pytest.raises(NotReady, match="did not allow this notebook to see your Drive"):
        prepare(ROOT, "9.9")


def test_without_a_wheel_pip_brings_the_release_and_nothing_else(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        Path(command[command.index("--target") + 1]).mkdir(parents=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    run = mocker.patch("driverun.launchers.bootstrap.subprocess.run", side_effect=pip)
    folder = tmp_path / "packages" / "driverun-9.9"
    install_release("9.9", str(folder))
    assert folder.is_dir()
    command = run.call_args.args[0]
    assert command[-2:] == ["driverun==9.9", "cronsim"]
    assert "--no-deps" in command


def test_a_release_that_pip_cannot_bring_is_told(tmp_path: Path, mocker: MockerFixture) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: looking\nERROR: No matching distribution found")
    mocker.patch("driverun.launchers.bootstrap.subprocess.run", return_value=failed)
    with pytest.raises(NotReady, match="No matching distribution found\nPut one there"):
        install_release("9.9", str(tmp_path / "driverun-9.9"))
    assert not list(tmp_path.iterdir())
