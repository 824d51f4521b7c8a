from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driverun.testing.colab import ColabStandIn, Secret
from driverun.testing.colab.standin import DOMAIN_POLICY, MOUNT_TIMEOUT

MOUNT = "import os; from google.colab import drive; drive.mount(os.environ['MOUNT']);"


@pytest.fixture
def colab(tmp_path: Path) -> ColabStandIn:
    """One whose calls need no kernel, so that plain processes will do."""
    stand_in = ColabStandIn(tmp_path / "colab")
    stand_in.kernel_needed = False
    return stand_in


def run(colab: ColabStandIn, source: str) -> subprocess.CompletedProcess[str]:
    environment = colab.over({**os.environ, "MOUNT": str(colab.mountpoint)})
    return subprocess.run(
        [sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=60
    )


def shown(colab: ColabStandIn, source: str) -> str:
    ended = run(colab, source)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def raised(colab: ColabStandIn, source: str) -> str:
    """Return the last line of the trace: the error's class, and what it says."""
    ended = run(colab, source)
    assert ended.returncode == 1, ended.stdout
    return ended.stderr.strip().splitlines()[-1]


def names(colab: ColabStandIn) -> list[str]:
    return [call.name for call in colab.journal()]


def test_it_is_what_a_cell_imports_and_leaves_other_packages_of_google_alone(colab: ColabStandIn) -> None:
    source = (
        "import google.auth.credentials, google.oauth2, google.colab\n"
        "from google.colab import auth, drive, errors, files, output, runtime, userdata\n"
        "import sys; print(google.colab.__file__, *(name for name in sys.modules if name.startswith('driverun')))"
    )
    assert shown(colab, source) == str(colab.package_path / "google" / "colab" / "__init__.py")


def test_it_starts_without_anything_installed(colab: ColabStandIn) -> None:
    bare = "'-S', '-c', 'import google.colab.userdata'"
    assert shown(colab, f"import subprocess, sys; subprocess.run([sys.executable, {bare}], check=True)") == ""


def test_each_call_is_written_down_with_its_arguments_and_the_time(colab: ColabStandIn) -> None:
    shown(
        colab,
        "from google.colab import auth, output, runtime\n"
        "auth.authenticate_user(project_id='p'); output.clear(); output.eval_js('1 + 1'); output.no_vertical_scroll()\n"
        "output.register_callback('f', print); output.serve_kernel_port_as_iframe(8080); runtime.unassign()",
    )
    calls = colab.journal()
    assert [call.name for call in calls] == [
        "auth.authenticate_user",
        "output.clear",
        "output.eval_js",
        "output.no_vertical_scroll",
        "output.register_callback",
        "output.serve_kernel_port_as_iframe",
        "runtime.unassign",
    ]
    assert calls[0].arguments == {"clear_output": True, "project_id": "p"}
    assert calls[5].arguments["port"] == 8080
    assert all(call.at.utcoffset() == timedelta(0) for call in calls)
    assert datetime(2020, 1, 1, tzinfo=UTC) < calls[0].at <= calls[-1].at
    assert len({call.pid for call in calls}) == 1
    assert calls[0].pid != os.getpid()


def test_a_call_outside_a_stand_in_says_what_is_missing(colab: ColabStandIn) -> None:
    source = (
        "import os; del os.environ['COLAB_STAND_IN']; from google.colab import runtime; runtime.unassign()"
    )
    assert "COLAB_STAND_IN is not set" in raised(colab, source)


# The mount


def test_my_drive_is_there_under_both_of_its_names(colab: ColabStandIn) -> None:
    (colab.my_drive / "jobs").mkdir()
    (colab.my_drive / "jobs" / "job.yaml").write_text("entrypoint: train.py")
    said = shown(colab, MOUNT)
    assert said == f"Mounted at {colab.mountpoint}"
    for name in ("MyDrive", "My Drive"):
        assert (colab.mountpoint / name / "jobs" / "job.yaml").read_text() == "entrypoint: train.py"


def test_mounting_again_says_so_and_asks_the_person_all_the_same(colab: ColabStandIn) -> None:
    shown(colab, MOUNT)
    assert shown(colab, MOUNT) == (
        f"Drive already mounted at {colab.mountpoint}; to attempt to forcibly remount, "
        f'call drive.mount("{colab.mountpoint}", force_remount=True).'
    )
    colab.fail("drive.mount", "MessageError")
    assert raised(colab, MOUNT).startswith("google.colab._message.MessageError: ")


def test_what_was_written_is_lost_with_the_power(colab: ColabStandIn) -> None:
    shown(colab, MOUNT)
    (colab.mountpoint / "MyDrive" / "results.txt").write_text("lost")
    assert colab.pending() == ["results.txt"]
    colab.power_cut()
    assert list(colab.my_drive.iterdir()) == []
    shown(colab, MOUNT)
    assert os.listdir(colab.mountpoint / "MyDrive") == []


def test_what_was_flushed_is_kept_and_the_mount_is_gone(colab: ColabStandIn) -> None:
    (colab.my_drive / "old.txt").write_text("old")
    shown(
        colab,
        MOUNT + "here = os.path.join(os.environ['MOUNT'], 'My Drive'); os.makedirs(here + '/a/b')\n"
        "open(here + '/a/b/new.txt', 'w').write('new'); os.remove(here + '/old.txt'); drive.flush_and_unmount()",
    )
    assert os.listdir(colab.mountpoint) == []
    colab.power_cut()
    assert (colab.my_drive / "a" / "b" / "new.txt").read_text() == "new"
    assert not (colab.my_drive / "old.txt").exists()


def test_without_a_mount_there_is_nothing_to_flush(colab: ColabStandIn) -> None:
    said = shown(colab, "from google.colab import drive; drive.flush_and_unmount()")
    assert said == "Drive not mounted, so nothing to flush and unmount."


def test_mounting_by_force_begins_with_what_the_cloud_has(colab: ColabStandIn) -> None:
    shown(colab, MOUNT)
    (colab.mountpoint / "MyDrive" / "pending.txt").touch()
    (colab.my_drive / "new.txt").touch()
    shown(colab, MOUNT + "drive.mount(os.environ['MOUNT'], force_remount=True)")
    assert os.listdir(colab.mountpoint / "MyDrive") == ["new.txt"]


def test_what_is_written_to_a_mount_for_reading_reaches_nobody(colab: ColabStandIn) -> None:
    shown(colab, "import os; from google.colab import drive; drive.mount(os.environ['MOUNT'], readonly=True)")
    (colab.mountpoint / "MyDrive" / "mine.txt").touch()
    shown(colab, "from google.colab import drive; drive.flush_and_unmount()")
    assert list(colab.my_drive.iterdir()) == []


def test_a_mount_that_died_is_no_folder_and_is_mounted_anew_by_force(colab: ColabStandIn) -> None:
    shown(colab, MOUNT)
    colab.break_mount()
    my_drive = colab.mountpoint / "MyDrive"
    assert not my_drive.is_dir()
    for act in (lambda: os.listdir(my_drive), lambda: (my_drive / "new.txt").touch(), my_drive.stat):
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            act()
    assert raised(colab, "from google.colab import drive; drive.flush_and_unmount()") == (
        "ValueError: flush_and_unmount failed"
    )
    shown(colab, MOUNT)
    assert my_drive.is_dir()


@pytest.mark.parametrize(
    ("prepare", "mountpoint", "words"),
    [
        ("pass", "my drive", "Mountpoint must not contain a space."),
        ("os.mkdir('d'); open('d/f', 'w')", "d", "Mountpoint must not already contain files"),
        ("os.symlink('.', 'd')", "d", "Mountpoint must not be a symlink"),
        ("open('d', 'w')", "d", "Mountpoint must either be a directory or not exist"),
        ("pass", "none/d", "Mountpoint must be in a directory that exists"),
    ],
)
def test_a_mountpoint_that_will_not_do(
    colab: ColabStandIn, prepare: str, mountpoint: str, words: str
) -> None:
    source = (
        f"import os; os.chdir({str(colab.content)!r}); {prepare}\n"
        f"from google.colab import drive; drive.mount({mountpoint!r})"
    )
    assert raised(colab, source) == f"ValueError: {words}"


# Faults

CALLS = {
    "auth.authenticate_user": "from google.colab import auth; auth.authenticate_user()",
    "auth.authenticate_service_account": "from google.colab import auth; auth.authenticate_service_account()",
    "drive.mount": MOUNT,
    "drive.flush_and_unmount": MOUNT + "drive.flush_and_unmount()",
    "userdata.get": "from google.colab import userdata; userdata.get('TOKEN')",
    "runtime.unassign": "from google.colab import runtime; runtime.unassign()",
}


@pytest.mark.parametrize(
    ("call", "error", "message", "words"),
    [
        (
            "auth.authenticate_user",
            "MessageError",
            "",
            "google.colab._message.MessageError: Error: credential propagation was unsuccessful",
        ),
        (
            "auth.authenticate_user",
            "AuthorizationError",
            "",
            "google.colab.errors.AuthorizationError: Failed to fetch user credentials",
        ),
        (
            "auth.authenticate_service_account",
            "AuthorizationError",
            "no key",
            "google.colab.errors.AuthorizationError: no key",
        ),
        (
            "drive.mount",
            "MessageError",
            "",
            "google.colab._message.MessageError: Error: credential propagation was unsuccessful",
        ),
        (
            "drive.mount",
            "NotImplementedError",
            "",
            "NotImplementedError: Mounting drive is unsupported in this environment. Use PyDrive2 instead.",
        ),
        ("drive.mount", "ValueError", "", "ValueError: mount failed"),
        ("drive.mount", "ValueError", MOUNT_TIMEOUT, f"ValueError: {MOUNT_TIMEOUT}"),
        ("drive.mount", "ValueError", DOMAIN_POLICY, f"ValueError: {DOMAIN_POLICY}"),
        ("drive.flush_and_unmount", "ValueError", "", "ValueError: flush_and_unmount failed"),
        (
            "runtime.unassign",
            "RuntimeManagementError",
            "",
            "google.colab.errors.RuntimeManagementError: Unable to request VM unassignment.",
        ),
        (
            "userdata.get",
            "TimeoutException",
            "",
            "google.colab.userdata.TimeoutException: Requesting secret TOKEN timed out. "
            "Secrets can only be fetched when running from the Colab UI.",
        ),
        ("userdata.get", "NotebookAccessError", "no", "google.colab.userdata.NotebookAccessError: no"),
    ],
)
def test_a_fault_ends_the_call_as_often_as_was_asked(
    colab: ColabStandIn, call: str, error: str, message: str, words: str
) -> None:
    colab.secrets = {"TOKEN": Secret(value="t")}
    colab.fail(call, error, message, times=2)
    for _ in range(2):
        assert raised(colab, CALLS[call]) == words
    shown(colab, CALLS[call])
    assert names(colab).count(call) == 3


def test_a_fault_without_end_ends_when_all_is_healed(colab: ColabStandIn) -> None:
    colab.fail("runtime.unassign", "RuntimeManagementError")
    for _ in range(3):
        raised(colab, CALLS["runtime.unassign"])
    colab.heal()
    shown(colab, CALLS["runtime.unassign"])


def test_a_flush_that_fails_pushes_nothing_and_stays_mounted(colab: ColabStandIn) -> None:
    shown(colab, MOUNT)
    (colab.mountpoint / "MyDrive" / "new.txt").touch()
    colab.fail("drive.flush_and_unmount", "ValueError", times=1)
    raised(colab, "from google.colab import drive; drive.flush_and_unmount()")
    assert colab.pending() == ["new.txt"]
    assert list(colab.my_drive.iterdir()) == []
    assert (colab.mountpoint / "MyDrive" / "new.txt").exists()


def test_a_runtime_of_ones_own_mounts_nothing(colab: ColabStandIn) -> None:
    colab.hosted = False
    assert raised(colab, MOUNT).startswith("NotImplementedError: ")


def test_leave_is_asked_for_once_in_the_life_of_a_runtime(colab: ColabStandIn) -> None:
    shown(colab, CALLS["auth.authenticate_user"])
    colab.kernel_needed = True
    shown(colab, CALLS["auth.authenticate_user"])  # a plain process finds what was granted
    colab.power_cut()
    assert raised(colab, CALLS["auth.authenticate_user"]).startswith("AttributeError: ")


# Secrets, files


def test_secrets_are_given_to_those_who_may_have_them(colab: ColabStandIn) -> None:
    colab.secrets = {"OPEN": Secret(value="a b"), "SHUT": Secret(value="x", granted=False)}
    get = "from google.colab import userdata; print(userdata.get({!r}))"
    assert shown(colab, get.format("OPEN")) == "a b"
    assert raised(colab, get.format("SHUT")) == (
        "google.colab.userdata.NotebookAccessError: Notebook does not have access to secret SHUT"
    )
    assert raised(colab, get.format("NONE")) == (
        "google.colab.userdata.SecretNotFoundError: Secret NONE does not exist."
    )
    assert raised(colab, get.format("A B")).startswith("ValueError: ")
    assert raised(colab, get.format("")).startswith("ValueError: ")


def test_files_say_that_there_is_no_browser(colab: ColabStandIn) -> None:
    assert "has no browser" in raised(colab, "from google.colab import files; files.upload()")
    assert "has no browser" in raised(
        colab, "from google.colab import files; files.download('/etc/hostname')"
    )
    assert "FileNotFoundError" in raised(colab, "from google.colab import files; files.download('none')")


# Who may ask the page


@pytest.mark.parametrize(
    "call", ["drive.mount", "auth.authenticate_user", "userdata.get", "runtime.unassign"]
)
def test_a_process_that_is_no_kernel_is_refused(colab: ColabStandIn, call: str) -> None:
    colab.kernel_needed = True
    assert raised(colab, CALLS[call]) == "AttributeError: 'NoneType' object has no attribute 'kernel'"
    assert not colab.mountpoint.exists()
    assert call in names(colab)


def test_another_thread_may_ask_for_secrets_only(colab: ColabStandIn) -> None:
    colab.secrets = {"TOKEN": Secret(value="t")}
    source = (
        "import os, threading; from concurrent.futures import ThreadPoolExecutor\n"
        "from google.colab import drive, userdata\n"
        "pool = ThreadPoolExecutor(1); print(pool.submit(userdata.get, 'TOKEN').result(), flush=True)\n"
        "pool.submit(drive.mount, os.environ['MOUNT']).result()"
    )
    ended = run(colab, source)
    assert ended.stdout.strip() == "t"
    assert "RuntimeError: Colab's page was asked from another thread" in ended.stderr
    assert not colab.mountpoint.exists()
