"""Commands about schedules: list, suspend, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from driverun.cli.main import App, echo, main, root_option, say

if TYPE_CHECKING:
    from driverun.execution.timetable import ScheduleSummary


@main.group()
def schedule() -> None:
    """See and change when jobs fall due."""


@schedule.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@root_option
@click.pass_obj
def list_(app: App, as_json: bool) -> None:
    """Show every schedule with its next due times, in its own time zone."""
    from driverun.cli.render import json_text, schedules_text

    client = app.client()
    found = client.schedules()
    if as_json:
        echo(json_text([each.to_json() for each in found]))
    elif found:
        echo(schedules_text(found))
    else:
        say('no job has a schedule. One is written in its job file: schedule: {cron: "0 3 * * *"}')
    for invalid in client.invalid_jobs():
        for fault in invalid.faults:
            say(f"INVALID {fault}")


@schedule.command()
@click.argument("job")
@root_option
@click.pass_obj
def suspend(app: App, job: str) -> None:
    """Let nothing of JOB fall due until it is resumed. What runs goes on."""
    _tell(app.client().suspend_schedule(job))


@schedule.command()
@click.argument("job")
@root_option
@click.pass_obj
def resume(app: App, job: str) -> None:
    """Let JOB fall due again. What would have been due meanwhile is not made up for."""
    _tell(app.client().resume_schedule(job))


def _tell(summary: ScheduleSummary) -> None:
    from driverun.cli.render import next_due_text

    echo(f"{summary.job}: {next_due_text(summary)}")
