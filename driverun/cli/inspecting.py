"""Commands that look: status, logs, fetch, report, diff, compare, doctor."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from driverun.cli.main import EXIT_NO, EXIT_UNREACHABLE, App, echo, main, root_option, say

SHOWN = 200  #: runs at most, unless a person wants all


@main.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--all", "show_all", is_flag=True, help=f"Show every run, also where there are more than {SHOWN}."
)
@root_option
@click.pass_obj
def status(app: App, run: str | None, as_json: bool, show_all: bool) -> None:
    """Show all runs, or one with its attempts and checkpoints.

    Of many runs it shows those that are not over, what is at work first, and the newest.
    """
    from driverun.cli import render

    board = app.board()
    now = board.store.now()
    if run is not None:
        summary = board.run(run)
        text = (
            render.json_text(summary.to_json())
            if as_json
            else render.run_text(summary, now=now, terminal=app.is_terminal)
        )
        echo(text)
        return
    if as_json:
        echo(render.json_text([summary.to_json(details=False) for summary in board.runs()]))
        return
    found = board.overview(most=None if show_all else SHOWN)
    # Tables that fit themselves to the terminal take their time.
    terminal = app.is_terminal and len(found.runs) <= SHOWN
    echo(render.runs_table(found.runs, now=now, terminal=terminal))
    if found.text:
        say(found.text)
    for problem in board.problems():
        say(f"passed over: {problem.path}: {problem.message}")
    for invalid in board.invalid_jobs():
        say(f"the job {invalid.name} is INVALID:")
        for fault in invalid.faults:
            say(f"  {fault}")


@main.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@root_option
@click.pass_obj
def logs(app: App, run: str, follow: bool) -> None:
    """Print what RUN wrote, attempt by attempt."""
    from driverun.report.shown import shown

    attempt = None
    for piece in app.client().logs(run, follow=follow):
        if piece.attempt != attempt:
            attempt = piece.attempt
            say(f"--- attempt {attempt}")
        # To a file it goes as it was written; a terminal is not to be had by what a job prints.
        text = shown(piece.text, keep="\n\t\r", colours=True) if app.is_terminal else piece.text
        click.echo(text, nl=False)


@main.command()
@click.argument("run")
@click.argument("dest", required=False, type=click.Path(path_type=Path, file_okay=False))
@root_option
@click.pass_obj
def fetch(app: App, run: str, dest: Path | None) -> None:
    """Copy the results of RUN to the folder DEST (default: one of the run's name here)."""
    from driverun.cli.bars import show_progress

    client = app.client()
    folder = dest or Path(client.find(run))
    for file in client.fetch(run, folder, show_progress(str(folder), app.here.clock)):
        echo(file)


@main.command()
@click.argument("run")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the page."
)
@click.option("--open", "show", is_flag=True, help="Open it in a browser.")
@root_option
@click.pass_obj
def report(app: App, run: str, output: Path | None, show: bool) -> None:
    """Write one HTML page about RUN: curves, attempts, what each interruption cost."""
    client = app.client()
    file = output or Path(f"{client.find(run)}.html")
    file.write_text(client.report(run), encoding="utf-8")
    echo(file)
    if show:
        click.launch(str(file))


@main.command()
@click.argument("run_a")
@click.argument("run_b")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@root_option
@click.pass_obj
def diff(app: App, run_a: str, run_b: str, as_json: bool) -> None:
    """Name the first variable, value or output in which two runs differ, and by how much."""
    from driverun.cli import render

    client = app.client()
    found = client.diff(run_a, run_b)
    if as_json:
        echo(render.json_text({"identical": found is None, "difference": found.to_json() if found else None}))
    else:
        echo(render.difference_text(found, label_a=client.find(run_a), label_b=client.find(run_b)))
    if found is not None:
        sys.exit(EXIT_NO)


@main.command()
@click.argument("of", nargs=-1, metavar="[JOB | SWEEP | RUN]...")
@click.option("--metric", metavar="NAME", help="By which they are in order; as `status RUN` names it.")
@click.option("--mode", type=click.Choice(["min", "max"]), help="Whether less or more of it is better.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table for spreadsheets.")
@root_option
@click.pass_obj
def compare(
    app: App, of: tuple[str, ...], metric: str | None, mode: str | None, as_json: bool, as_csv: bool
) -> None:
    """Show runs beside each other, the best first, with the params in which they differ.

    Without a name, the newest sweep is meant. Runs that are not done come last. The metric is the one that the job's
    checkpoints monitor, else evaluate's accuracy or loss, else a val_ metric of fit.
    """
    from driverun.cli import render

    found = app.client().compare(of, metric=metric, mode=mode)
    if as_json:
        echo(render.json_text(found.to_json()))
    elif as_csv:
        echo(found.to_csv(), nl=False)
    elif not found.runs:
        echo("No runs yet: driverun submit JOB")
    else:
        echo(render.comparison_text(found, terminal=app.is_terminal))
        say(render.ranking_text(found))


@main.command()
@root_option
@click.pass_obj
def doctor(app: App) -> None:
    """Say what is wrong with this set-up, and how to mend it.

    On a root of Drive it tries the login, and writes some small files that it takes away again.
    """
    from driverun.cli import render
    from driverun.launchers.doctor import examine

    findings = examine(app.root, app.here)
    echo(render.problems(findings, terminal=app.is_terminal))
    if any(finding.is_unreachable for finding in findings):
        sys.exit(EXIT_UNREACHABLE)
    if any(finding.is_fault for finding in findings):
        sys.exit(EXIT_NO)
