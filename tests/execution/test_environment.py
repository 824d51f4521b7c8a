"""A job's packages: installed beside the runtime's, kept on the root, refused where they would break a framework."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from driverun.errors import IndexOutOfReach, RequirementsError, StoreQuotaExceeded
from driverun.execution.environment import Environments, JobPackages, changed_versions
from driverun.execution.installers import (
    Installer,
    Package,
    PipInstaller,
    UvInstaller,
    find_installer,
    is_out_of_reach,
)
from driverun.execution.runtime_packages import RuntimePackages, look_at_packages
from driverun.storage.base import ObjectStore
from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.faulty import FaultyStore, Injection
from tests.execution.wheels import offline, write_wheel

RUNTIME = RuntimePackages(
    python="cpython-311 3.11.9",
    platform="linux-x86_64",
    versions={"tensorflow": "2.19.0", "numpy": "2.0.2", "protobuf": "5.29.1", "keras": "3.8.0", "six": "1.0"},
    requires={
        "tensorflow": ["numpy>=1.26,<2.2", "protobuf<6,>=3.20", "keras>=3.5", "gast; extra == 'x'"],
        "keras": ["numpy", "six>2", "absl-py"],
    },
)


class Bench:
    """Links to take packages from, a root to keep them on, and machines to install them on."""

    def __init__(self, folder: Path, make: Callable[..., Installer] | None = None) -> None:
        self.folder = folder
        self.links = folder / "links"
        self.links.mkdir()
        self.clock = FakeClock()
        self.store: ObjectStore = MemoryStore(self.clock)
        self.said: list[str] = []
        self.make = make
        self.machines = 0

    def prepare(self, *requirements: str, runtime: RuntimePackages | None = None) -> JobPackages:
        """On a new machine."""
        self.machines += 1
        scratch = self.folder / f"machine-{self.machines}"
        scratch.mkdir()
        environment = {**os.environ, **offline(self.links)}
        installer = (
            self.make(python=sys.executable, environment=environment, clock=self.clock) if self.make else None
        )
        environments = Environments(
            python=sys.executable,
            environment=environment,
            clock=self.clock,
            installer=installer,
            runtime=runtime,
        )
        return environments.prepare(
            requirements,
            store=self.store,
            into=scratch / "packages",
            scratch=scratch,
            worker=f"worker{self.machines}",
            say=self.said.append,
            check=lambda: None,
        )

    def kept(self) -> list[str]:
        return [info.path for info in self.store.list(".driverun/envs", recursive=True)]


def uv(**means: object) -> Installer:
    program = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("uv is not installed")
    return UvInstaller([program], **means)  # type: ignore[arg-type]


@pytest.fixture(params=[uv, PipInstaller], ids=["uv", "pip"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(tmp_path, request.param)


@pytest.fixture(scope="module")
def here() -> RuntimePackages:
    """What the interpreter of these tests has."""
    return look_at_packages(sys.executable, os.environ)


def test_what_the_runtime_lacks_is_installed_and_the_next_takes_it_from_the_root(bench: Bench) -> None:
    write_wheel(bench.links, "tinya", "1.5", requires=["tinyb>=1"], program="tiny")
    write_wheel(bench.links, "tinyb", "1.2")
    first = bench.prepare("tinya>=1", "pytest")
    assert first.versions == {"tinya": "1.5", "tinyb": "1.2"}
    assert len(bench.kept()) == 2
    shutil.rmtree(bench.links)
    bench.make = None  # nothing could be asked
    second = bench.prepare("tinya>=1", "pytest")
    assert second.versions == first.versions
    assert first.folder is not None
    assert second.folder is not None
    assert first.folder != second.folder
    for folder in (first.folder, second.folder):
        assert {path.name for path in folder.iterdir()} >= {"tinya.py", "tinyb.py", "bin"}
        done = subprocess.run(
            [folder / "bin" / "tiny"],
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            check=True,
        )
        assert done.stdout == b"tinya 1.5\n"


def test_damaged_packages_are_installed_anew_and_kept_once_more(bench: Bench) -> None:
    write_wheel(bench.links, "tinya", "1.5")
    bench.prepare("tinya")
    (packed,) = (path for path in bench.kept() if path.endswith(".zip"))
    content = bytearray(bench.store.read(packed))
    content[len(content) // 2] ^= 1
    bench.store.replace(packed, bytes(content))
    found = bench.prepare("tinya")
    assert found.folder is not None
    assert (found.folder / "tinya.py").is_file()
    assert any("its bytes are not those that were put there" in line for line in bench.said)
    assert len(bench.kept()) == 4
    shutil.rmtree(bench.links)
    assert bench.prepare("tinya").versions == {"tinya": "1.5"}, "the newest lock goes first"


def test_a_package_without_its_lock_does_not_count(bench: Bench) -> None:
    write_wheel(bench.links, "tinya", "1.5")
    bench.prepare("tinya")
    (lock,) = (path for path in bench.kept() if "lock-" in path)
    bench.store.replace(lock, b'{"schema_version": 1, "half')
    assert bench.prepare("tinya").versions == {"tinya": "1.5"}
    assert len([line for line in bench.said if line.startswith("packages installed")]) == 2


def test_what_nobody_has_is_told_in_the_words_of_the_installer(bench: Bench) -> None:
    with pytest.raises(RequirementsError, match=r"\(nothere>=3\).*nothere.*Ask for versions that exist"):
        bench.prepare("nothere>=3")
    assert bench.kept() == []


def test_a_package_that_wants_another_framework_is_told_with_both_sides(
    bench: Bench, here: RuntimePackages
) -> None:
    write_wheel(bench.links, "tinyold", "1.0", requires=["numpy<1.5"])
    with pytest.raises(RequirementsError) as caught:
        bench.prepare("tinyold")
    text = str(caught.value)
    assert "tinyold" in text
    assert "numpy<1.5" in text
    assert f"This runtime has numpy {here.versions['numpy']}" in text


def test_packages_in_other_versions_go_before_those_of_the_runtime(
    bench: Bench, here: RuntimePackages
) -> None:
    write_wheel(bench.links, "pluggy", "99.0")
    assert bench.prepare("pluggy>=99").versions == {"pluggy": "99.0"}
    assert here.versions["pluggy"] != "99.0"
    assert look_at_packages(sys.executable, os.environ).versions == here.versions, "which stays as it is"


def test_a_root_that_takes_no_packages_holds_up_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, uv)
    write_wheel(bench.links, "tinya", "1.5")
    full = Injection(
        error=lambda path: StoreQuotaExceeded("full", path=path), operations=frozenset({"create"})
    )
    bench.store = FaultyStore(bench.store, crash_at=None, injections=[full])
    assert bench.prepare("tinya").versions == {"tinya": "1.5"}
    assert any("not kept on the root" in line for line in bench.said)


def test_too_many_packages_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("driverun.transfer.environments.MOST_BYTES", 100)
    bench = Bench(tmp_path, uv)
    write_wheel(bench.links, "tinya", "1.5")
    assert bench.prepare("tinya").folder is not None
    assert bench.kept() == []
    assert any("each attempt downloads them" in line for line in bench.said)


# Decisions, without an installer.


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        (
            "numpy<2",
            "numpy<2 is wanted by the job, and this runtime has numpy 2.0.2 (for keras 3.8.0 and tensorflow",
        ),
        ("TensorFlow==2.18", "this runtime has tensorflow 2.19.0"),
        ("tensorflow-cpu", "tensorflow-cpu is wanted by the job, and this runtime has tensorflow 2.19.0"),
        ("keras @ https://a.org/keras.whl", "this runtime has keras 3.8.0"),
        ("numpy>=2", None),
        ("tensorflow[and-cuda]>=2.19", None),
        ("tf-keras", None),
        ("torch", None),
        ("protobuf<4", None),
        ("numpy<2; python_version<'3'", None),
    ],
)
def test_a_framework_of_the_runtime_has_no_second_copy(requirement: str, words: str | None) -> None:
    found = RUNTIME.conflict(requirement)
    assert (found is None) if words is None else (found is not None and words in found), found


def test_frameworks_are_held_and_what_they_need_stays_in_their_bounds() -> None:
    assert RUNTIME.constraints() == [
        "keras==3.8.0",
        "numpy==2.0.2",
        "tensorflow==2.19.0",
        "protobuf<6,>=3.20",  # but not six, of which the runtime itself has what keras does not want
    ]


def test_a_second_copy_that_something_brings_is_refused(tmp_path: Path) -> None:
    class Bringing:
        def resolve(self, *_: object) -> list[Package]:
            return [Package(name="tensorflow_cpu", version="2.18", requirement="tensorflow_cpu==2.18")]

        def install(self, *_: object) -> None:
            raise AssertionError("nothing may be installed")

    bench = Bench(tmp_path, lambda **_: Bringing())
    with pytest.raises(
        RequirementsError, match=r"tensorflow_cpu 2.18 would come with .* has tensorflow 2.19.0"
    ):
        bench.prepare("tinya", runtime=RUNTIME)


def test_what_the_runtime_has_needs_no_installer(tmp_path: Path) -> None:
    def none(**_: object) -> Installer:
        raise AssertionError("nobody is asked")

    bench = Bench(tmp_path)
    assert bench.prepare("numpy>=2", "six", runtime=RUNTIME) == JobPackages()
    assert bench.kept() == []


def test_what_changed_between_two_attempts_is_named() -> None:
    assert changed_versions({"a": "1", "b": "1"}, {"b": "1"}) == ["a is not installed, was 1"]
    assert changed_versions({"a": "1"}, {"a": "2", "c": "3"}) == ["a 2, was 1", "c 3, was not installed"]
    assert changed_versions({"a": "1"}, {"a": "1"}) == []


def test_the_key_tells_runtimes_and_requirements_apart() -> None:
    keys = {
        RUNTIME.key(["a", "b"]),
        RUNTIME.key(["a"]),
        replace(RUNTIME, python="cpython-312 3.12.1").key(["a"]),
        replace(RUNTIME, platform="linux-aarch64").key(["a"]),
        replace(RUNTIME, versions={**RUNTIME.versions, "six": "2.0"}).key(["a"]),
    }
    assert len(keys) == 5
    assert RUNTIME.key(["b", "a"]) == RUNTIME.key(["a", "b"])
    with_driverun = replace(RUNTIME, versions={**RUNTIME.versions, "driverun": "0.4"})
    assert with_driverun.key(["a"]) == RUNTIME.key(["a"])


def test_an_index_that_does_not_answer_is_no_fault_of_the_job(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    means = {"python": sys.executable, "clock": bench.clock}
    environment = {
        "PATH": os.environ["PATH"],
        "UV_INDEX_URL": "http://127.0.0.1:9/simple",
        "UV_HTTP_RETRIES": "0",
    }
    bench.make = lambda **_: uv(environment={**environment, "UV_CACHE_DIR": str(tmp_path / "c")}, **means)
    with pytest.raises(IndexOutOfReach, match="the index does not answer"):
        bench.prepare("tinya")


@pytest.mark.parametrize(
    ("said", "may_answer_later"),
    [
        # uv 0.13 and git 2.39
        (
            "cause: Failed to fetch: https://h/a.whl\ncause: error sending request for url (https://h/a.whl)",
            True,
        ),
        (
            "cause: Failed to fetch: https://h/a.whl\ncause: HTTP status server error (500 Internal Server",
            True,
        ),
        ("cause: Failed to fetch: https://h/a.whl\ncause: HTTP status client error (429 Too Many", True),
        (
            "cause: Failed to fetch: https://h/a.whl\ncause: HTTP status client error (404 Not Found) for",
            False,
        ),
        (
            "cause: Failed to fetch: https://h/a.whl\ncause: HTTP status client error (401 Unauthorized)",
            False,
        ),
        ("failed to clone into: /c\nfatal: unable to access 'https://h/': Could not resolve host: h", True),
        ("failed to clone into: /c\nfatal: unable to access 'https://h/': Couldn't connect to server", True),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 503", True),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 403", False),
        ("failed to clone into: /c\nfatal: repository 'https://h/' not found", False),
        ("failed to fetch into: /c\nfatal: repository 'https://h/' not found", False),
        # pip 26
        ("ERROR: HTTP error 404 while getting https://h/a.whl", False),
        ("ERROR: HTTP error 429 while getting https://h/a.whl", True),
        ("HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /a.whl", True),
    ],
)
def test_a_wrong_address_is_told_from_a_host_that_does_not_answer(said: str, may_answer_later: bool) -> None:
    assert is_out_of_reach(said) is may_answer_later


def test_an_installer_is_ended_when_nobody_wants_it(tmp_path: Path) -> None:
    sleeper = tmp_path / "uv"
    sleeper.write_text("#!/bin/sh\nexec sleep 600\n")
    sleeper.chmod(0o755)
    asked = []

    def check() -> None:
        asked.append(1)
        if len(asked) > 2:
            raise KeyboardInterrupt

    installer = UvInstaller([str(sleeper)], python=sys.executable, environment=os.environ, clock=FakeClock())
    with pytest.raises(KeyboardInterrupt):
        installer.resolve(["a"], [], check)


def test_uv_is_found_on_the_path_and_pip_is_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    means = {"python": str(python), "clock": FakeClock()}
    program = tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    on_path = {"PATH": str(program.parent), "PYTHONPATH": os.pathsep.join(sys.path)}
    assert isinstance(find_installer(environment=on_path, **means), UvInstaller)  # type: ignore[arg-type]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    without = {**on_path, "PATH": ""}
    assert isinstance(find_installer(environment=without, **means), PipInstaller)  # type: ignore[arg-type]
