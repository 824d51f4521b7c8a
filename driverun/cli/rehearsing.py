"""Commands that prove something: drill."""

from __future__ import annotations

import sys
from pathlib import Path

import click

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
@click.option("--seed", type=int, help="Of the random instants; default: another each time.")
@root_option
@click.pass_obj
def drill(
    app: App, job: Path, kills: int, keep: Path | None, params: tuple[str, ...], seed: int | None
) -> None:
    """Prove on this machine that JOB survives power cuts: run it whole, run it with cuts, compare every bit.

    Its data come from the root, if there is one.
    """
    from driverun.cli import render
    from driverun.launchers.drill import run_drill

    result = run_drill(
        job, kills=kills, keep=keep, params=params, seed=seed, root=app.root, here=app.here, say=say
    )
    click.echo(render.drill_table(result.rows, terminal=app.is_terminal))
    click.echo(f"uninterrupted  state_sha256 {result.whole.state_sha256}")
    click.echo(f"with {len(result.rows)} cuts    state_sha256 {result.cut.state_sha256}")
    for line in result.remarks:
        click.echo(line)
    click.echo("identical" if result.is_identical else f"NOT identical: {result.difference}")
    if keep is not None:
        click.echo(f"report: {result.report}")
    if not result.is_identical:
        sys.exit(EXIT_NO)
