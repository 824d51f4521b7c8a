"""Commands that prove something: drill, dev-soak."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from driverun.cli.dev_drive import FROM_ZERO
from driverun.cli.main import EXIT_NO, App, echo, main, root_option, say

if TYPE_CHECKING:
    from driverun.launchers.ground import Audit, Ground


_GROUND = (
    click.option(
        "--on",
        "ground",
        type=click.Choice(["folder", "drive"]),
        default="folder",
        show_default=True,
        help="Where the cuts happen; drive: on an emulated Drive, looked over in the end.",
    ),
    click.option(
        "--latency-ms", type=FROM_ZERO, default=0.0, help="Of the emulated Drive: added to every call."
    ),
    click.option(
        "--writes-per-second", type=FROM_ZERO, default=0.0, help="Of the same; 0: no limit. Drive: 3."
    ),
    click.option(
        "--listing-lag-s", type=FROM_ZERO, default=0.0, help="Of the same: until listings show what happened."
    ),
    click.option(
        "--fault-rate",
        type=click.FloatRange(0, 1),
        default=0.0,
        help="Of the same: the share of calls that fail.",
    ),
)


def ground_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where a rehearsal's root is, and what goes wrong there."""
    for option in reversed(_GROUND):
        command = option(command)
    return command


def _chosen_ground(
    app: App, ground: str, seed: int | None, settings: Mapping[str, Any]
) -> Callable[[Path], AbstractContextManager[Ground]] | None:
    """What makes the root; None: it is a folder. Raises UsageError."""
    from driverun.errors import UsageError

    if ground == "drive":
        from driverun.testing.drive_emulator.settings import EmulatorSettings
        from driverun.testing.drive_ground import drive_ground

        return drive_ground(EmulatorSettings(**settings), seed=seed or 0, here=app.here)
    if any(settings.values()):
        raise UsageError("only an emulated Drive has latency, limits, lag and faults: add --on drive")
    return None


@main.command()
@click.argument("job", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--kills", default=3, show_default=True, help="How many power cuts, one of them during a commit."
)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep the two roots in this folder."
)
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter of the job.")
@click.option(
    "--seed", type=int, help="Of the random instants, and of the Drive's faults; default: another each time."
)
@ground_options
@root_option
@click.pass_obj
def drill(
    app: App,
    /,
    job: Path,
    kills: int,
    keep: Path | None,
    params: tuple[str, ...],
    seed: int | None,
    ground: str,
    **settings: Any,
) -> None:
    """Prove on this machine that JOB survives power cuts: run it whole, run it with cuts, compare every bit.

    Its data come from the root, if there is one. A job with a matrix is run at all its points, and the tables that
    `driverun compare` shows are compared as well.
    """
    from driverun.cli import render
    from driverun.execution.jobs import local_job
    from driverun.launchers.drill import run_drill
    from driverun.launchers.sweep_drill import run_sweep_drill

    on = _chosen_ground(app, ground, seed, settings)
    if local_job(job).spec.matrix is not None:
        sweep = run_sweep_drill(
            job,
            kills=kills,
            keep=keep,
            params=params,
            seed=seed,
            root=app.root,
            here=app.here,
            say=say,
            on=on,
        )
        echo(render.sweep_drill_table(sweep.rows, terminal=app.is_terminal))
        echo(f"\n{render.comparison_text(sweep.cut, terminal=app.is_terminal)}\n")
        for line in sweep.differences:
            echo(f"different: {line}")
        word = "identical" if sweep.is_identical else "NOT identical"
        echo(f"{word}: {sweep.points} points with {len(sweep.rows)} power cuts and without any")
        for line in _audit_lines(sweep.audit):
            echo(line)
        if not sweep.is_ok:
            sys.exit(EXIT_NO)
        return
    result = run_drill(
        job, kills=kills, keep=keep, params=params, seed=seed, root=app.root, here=app.here, say=say, on=on
    )
    echo(render.drill_table(result.rows, terminal=app.is_terminal))
    echo(f"uninterrupted  state_sha256 {result.whole.state_sha256}")
    echo(f"with {len(result.rows)} cuts    state_sha256 {result.cut.state_sha256}")
    for line in result.remarks:
        echo(line)
    echo("identical" if result.is_identical else f"NOT identical: {result.difference}")
    if keep is not None:
        echo(f"report: {result.report}")
    for line in _audit_lines(result.audit):
        echo(line)
    if not result.is_ok:
        sys.exit(EXIT_NO)


def _audit_lines(audit: Audit | None) -> list[str]:
    return [] if audit is None else [*audit.lines, *(f"FAULT: {fault}" for fault in audit.faults)]


@main.command("dev-soak")
@click.option("--workers", default=12, show_default=True, help="How many at a time.")
@click.option("--runs", default=60, show_default=True, help="How many in all.")
@click.option("--fits", type=int, help="So many of them train with Keras; default: every tenth.")
@click.option("--minutes", type=FROM_ZERO, default=5.0, show_default=True, help="Of kills and pauses.")
@click.option(
    "--every-s", type=FROM_ZERO, help="Between two of them, on average; default: 5, more where lists lag."
)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep the two roots in this folder."
)
@click.option("--seed", type=int, help="Of what happens when; default: another each time.")
@ground_options
@click.pass_obj
def dev_soak(
    app: App,
    /,
    workers: int,
    runs: int,
    fits: int | None,
    minutes: float,
    every_s: float | None,
    keep: Path | None,
    seed: int | None,
    ground: str,
    **settings: Any,
) -> None:
    """Prove on this machine that many workers on one root do each other no harm.

    They are killed and put to sleep at random; every run has to end as with one worker alone.
    """
    import secrets

    from driverun.launchers.soak import SoakPlan, run_soak

    seed = secrets.randbelow(10**6) if seed is None else seed
    lag_s = float(settings["listing_lag_s"])
    plan = SoakPlan(
        workers=workers,
        runs=runs,
        fits=runs // 10 if fits is None else fits,
        minutes=minutes,
        every_s=5.0 + lag_s / 4 if every_s is None else every_s,
        lease_s=12.0 + lag_s,
    )
    say(f"seed {seed}")
    on = _chosen_ground(app, ground, seed, settings)
    result = run_soak(plan, seed=seed, keep=keep, here=app.here, say=say, on=on)
    for line in result.lines:
        echo(line)
    if result.audit is not None:
        for line in (*result.audit.lines, *(f"note: {fault}" for fault in result.audit.costly)):
            echo(line)
    for fault in result.faults:
        echo(f"FAULT: {fault}")
    echo("identical" if result.is_ok else "NOT identical")
    if not result.is_ok:
        sys.exit(EXIT_NO)
