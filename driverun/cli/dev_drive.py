"""The command that serves a Drive of one's own: dev-drive."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from driverun.cli.main import echo, main, say
from driverun.launchers.signals import asked_to_stop

if TYPE_CHECKING:
    from driverun.testing.drive_emulator import DriveEmulator

FROM_ZERO = click.FloatRange(min=0)


@main.command("dev-drive")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default="one that is free", help="Of 127.0.0.1."
)
@click.option(
    "--state",
    "state_dir",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder it lives in; it goes on where it was stopped, or killed.",
)
@click.option("--latency-ms", type=FROM_ZERO, default=0.0, help="Added to every call.")
@click.option(
    "--bandwidth-mbps", type=FROM_ZERO, default=0.0, help="Million bits a second each way; 0: no limit."
)
@click.option(
    "--writes-per-second", type=FROM_ZERO, default=0.0, help="Of each account; 0: no limit. Drive: 3."
)
@click.option("--listing-lag-s", type=FROM_ZERO, default=0.0, help="Until listings show what happened.")
@click.option(
    "--quota-gb", type=FROM_ZERO, default=15.0, show_default=True, help="Of each account; 0: no limit."
)
@click.option(
    "--fault-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="The share of calls that meet a fault, 0 to 1.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of ids and of faults.")
def dev_drive(port: int, state_dir: Path, seed: int, **settings: Any) -> None:
    """Serve an emulated Google Drive on loopback, for rehearsals and tests.

    Its address is the one line that goes to stdout; DRIVERUN_DRIVE_ENDPOINT takes it. Ctrl-C ends it.
    """
    from driverun.errors import UsageError

    try:
        from driverun.testing.drive_emulator import DriveEmulator, EmulatorSettings

        emulator = DriveEmulator(state_dir, port=port, seed=seed, settings=EmulatorSettings(**settings))
    except ImportError as exc:
        raise UsageError(
            f"cannot start the emulator: {exc.name} is not installed. Install driverun with its extra `drive`."
        ) from exc
    except BlockingIOError as exc:
        raise UsageError(f"cannot start the emulator: {exc.strerror}. Choose another --state.") from exc
    try:
        emulator.start()
    except OSError as exc:
        raise UsageError(
            f"cannot listen on 127.0.0.1:{port}: {exc.strerror}. Choose another --port."
        ) from exc
    stopped = threading.Event()
    with asked_to_stop(lambda *_: stopped.set()):
        _serve(emulator, state_dir, stopped)


def _serve(emulator: DriveEmulator, state_dir: Path, stopped: threading.Event) -> None:
    echo(emulator.url)
    say(f"Drive v2, state in {state_dir}; requests are logged to {state_dir / 'requests.jsonl'}")
    say(f"export DRIVERUN_DRIVE_ENDPOINT={emulator.url}")
    stopped.wait()
    emulator.close()
