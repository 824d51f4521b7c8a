"""Commands that prove something: drill."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from driverun.cli.dev_drive import FROM_ZERO
from driverun.cli.main import EXIT_NO, App, main, root_option, say


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
@click.option(
    "--on",
    "ground",
    type=click.Choice(["folder", "drive"]),
    default="folder",
    show_default=True,
    help="Where the cuts happen; drive: on an emulated Drive, looked over in the end.",
)
@click.option("--latency-ms", type=FROM_ZERO, default=0.0, help="Of the emulated Drive: added to every call.")
@click.option("--writes-per-second", type=FROM_ZERO, default=0.0, help="Of the same; 0: no limit. Drive: 3.")
@click.option(
    "--listing-lag-s", type=FROM_ZERO, default=0.0, help="Of the same: until listings show what happened."
)
@click.option(
    "--fault-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="Of the same: the share of calls that fail.",
)
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

    Its data come from the root, if there is one.
    """
    from driverun.cli import render
    from driverun.errors import UsageError
    from driverun.launchers.drill import run_drill

    on = None
    if ground == "drive":
        from driverun.testing.drive_emulator.settings import EmulatorSettings
        from driverun.testing.drive_ground import drive_ground

        on = drive_ground(EmulatorSettings(**settings), seed=seed or 0, here=app.here)
    elif any(settings.values()):
        raise UsageError("only an emulated Drive has latency, limits, lag and faults: add --on drive")
    result = run_drill(
        job, kills=kills, keep=keep, params=params, seed=seed, root=app.root, here=app.here, say=say, on=on
    )
    click.echo(render.drill_table(result.rows, terminal=app.is_terminal))
    click.echo(f"uninterrupted  state_sha256 {result.whole.state_sha256}")
    click.echo(f"with {len(result.rows)} cuts    state_sha256 {result.cut.state_sha256}")
    for line in result.remarks:
        click.echo(line)
    click.echo("identical" if result.is_identical else f"NOT identical: {result.difference}")
    if keep is not None:
        click.echo(f"report: {result.report}")
    if result.audit is not None:
        for line in (*result.audit.lines, *(f"FAULT: {fault}" for fault in result.audit.faults)):
            click.echo(line)
    if not result.is_ok:
        sys.exit(EXIT_NO)
