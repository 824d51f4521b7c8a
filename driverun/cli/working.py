"""Commands that change something: init, upload, submit, work, cancel, priority, retry."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from driverun.cli.main import (
    EXIT_LEFT,
    EXIT_NO,
    EXIT_STOPPED,
    App,
    echo,
    main,
    root_option,
    say,
)


def work_options(max_runtime: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What a worker takes up, and for how long: max_runtime_s, allow_cpu, jobs.

    Args:
        max_runtime: help for the first.
    """

    def with_options(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(
            (
                click.option(
                    "--max-runtime", "max_runtime_s", metavar="TIME", callback=_seconds, help=max_runtime
                ),
                click.option(
                    "--allow-cpu/--no-cpu",
                    default=True,
                    show_default=True,
                    help="Whether jobs may run without an accelerator.",
                ),
                click.option(
                    "--job",
                    "jobs",
                    multiple=True,
                    metavar="NAME",
                    help="Only this job or run; may be repeated.",
                ),
            )
        ):
            function = option(function)
        return function

    return with_options


def _seconds(_: click.Context, option: click.Parameter, text: str | None) -> float | None:
    from driverun.errors import UsageError
    from driverun.spec.units import parse_duration

    try:
        return parse_duration(text) if text else None
    except ValueError as exc:
        raise UsageError(f"{option.opts[0]}: {exc}") from exc


@main.command()
@click.argument("place", metavar="[ROOT]", required=False)
@root_option
@click.pass_obj
def init(app: App, place: str | None) -> None:
    """Make a root: a folder that holds jobs, data, runs and their state.

    On Drive it also keeps the wheel of this driverun, which Colab installs. Calling it again after an update brings
    the new one.
    """
    from driverun.assembly import init_root

    made = init_root(place or app.root, app.here)
    location = made.store.location
    echo(f"{location} {'is a driverun root now' if made.is_new else 'is a driverun root'}")
    if made.wheel is not None:
        say(f"This driverun is there for other machines to install: {made.wheel}")
    if made.no_wheel:
        say(f"no wheel is there for Colab: {made.no_wheel}")
    if not location.startswith("gdrive:"):  # editors open no such address
        say("For completion and checks in an editor, begin a job.yaml with this line:")
        say(f"# yaml-language-server: $schema={location}/.driverun/job.schema.json")


@main.command()
@click.argument("local", type=click.Path(exists=True, path_type=Path))
@click.argument("target")
@root_option
@click.pass_obj
def upload(app: App, local: Path, target: str) -> None:
    """Put a file or folder of this machine at TARGET on the root, such as data/mnist.npz."""
    from driverun.cli.bars import show_progress
    from driverun.cli.render import json_text  # noqa: F401 (the module must load before a long upload)
    from driverun.transfer.progress import written_size

    done = app.client().upload(local, target, show_progress(target, app.here.clock))
    changed = sum(outcome.value != "equal" for outcome in done.outcomes.values())
    files = f"{count} files" if (count := len(done.outcomes)) != 1 else "1 file"
    there = f", {count - changed} there already" if changed < count else ""
    echo(f"{files}, {written_size(done.size_bytes)}: {changed} sent{there}")


@main.command()
@click.argument("job")
@click.option("-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter of the job.")
@click.option("--again", is_flag=True, help="Make another run of what was computed already.")
@click.option("--now", is_flag=True, help="Of a job with a schedule, make a run at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--wait", is_flag=True, help="Return when all is over; 1 if a run did not succeed.")
@root_option
@click.pass_obj
def submit(
    app: App, job: str, params: tuple[str, ...], again: bool, now: bool, as_json: bool, wait: bool
) -> None:
    """Put JOB, a folder or a name under jobs/, into the queue; print the run's id.

    A job with a schedule is put in its place, and makes its runs as they fall due.

    A job with a matrix makes a run for each point, whose ids are printed in the order of the matrix.
    """
    from driverun.cli.render import json_text, next_due_text
    from driverun.errors import UsageError
    from driverun.runs.state import RunState
    from driverun.spec.parser import parse_override

    client = app.client()
    loaded = client.load_job(job)
    overrides: dict[str, Any] = dict(parse_override(text) for text in params)
    if loaded.spec.schedule is not None and not now:
        if overrides or again or wait:
            raise UsageError(
                f"cannot submit {job} like this: it has a schedule, whose runs take what the job file says. "
                "For one run at once: driverun submit --now"
            )
        placed = client.schedule(loaded)
        for warning in client.job_warnings(loaded):
            say(f"note: {warning}")
        echo(json_text(placed.to_json()) if as_json else f"{placed.job}: {next_due_text(placed)}")
        return
    submitted = client.submit(loaded, params=overrides, again=again)
    for warning in client.job_warnings(loaded):
        say(f"note: {warning}")
    if submitted.sweep is None:
        summaries = {submitted.run_id: client.run(submitted.run_id)}
    else:  # by one look, however many there are
        known = {summary.run_id: summary for summary in client.runs()}
        summaries = {run.run_id: known.get(run.run_id) or client.run(run.run_id) for run in submitted.runs}
    there = [summaries[run.run_id].state.value for run in submitted.runs if not run.is_new]
    if there and submitted.sweep is None:
        say(f"this run exists and is {there[0]}; --again makes another of the same")
    elif there:
        say(f"{len(there)} of {len(submitted.runs)} runs were there; --again makes others of the same")
    if wait:
        summaries = {run_id: client.wait(run_id) for run_id in summaries}
    if as_json:
        told: dict[str, Any] = {
            "run_id": submitted.run_id,
            "state": summaries[submitted.run_id].state.value,
            "is_new": submitted.is_new,
        }
        if submitted.sweep is not None:
            told["runs"] = [
                {
                    "run_id": run.run_id,
                    "params": dict(run.params),
                    "state": summaries[run.run_id].state.value,
                    "is_new": run.is_new,
                }
                for run in submitted.runs
            ]
            told["sweep"] = submitted.sweep
        echo(json_text(told))
    else:
        for run_id in summaries:
            echo(run_id)
        if submitted.sweep is not None:
            say(f"{len(summaries)} runs; compare them with: driverun compare {submitted.sweep}")
    if wait and any(summary.state is not RunState.SUCCEEDED for summary in summaries.values()):
        sys.exit(EXIT_NO)


@main.command()
@click.option(
    "--until-empty", "mode", flag_value="until-empty", default=True, help="Until nothing is left (default)."
)
@click.option("--once", "mode", flag_value="once", help="One run.")
@click.option("--watch", "mode", flag_value="watch", help="For ever.")
@work_options("Hand over after so long, as in 11h30m.")
@click.option("--quiet", is_flag=True, help="Do not show what jobs print.")
@root_option
@click.pass_obj
def work(
    app: App, mode: str, max_runtime_s: float | None, allow_cpu: bool, jobs: tuple[str, ...], quiet: bool
) -> None:
    """Claim runs and carry them out. Ctrl-C commits and hands over; a second one abandons."""
    import signal

    from driverun.assembly import WorkOptions, open_worker
    from driverun.cli.bars import show_progress
    from driverun.execution.context import Stop, StopSignal
    from driverun.execution.worker import Mode
    from driverun.launchers.signals import asked_to_stop
    from driverun.testing.holding import wrap_for_drill

    stop = StopSignal()
    here = app.here
    worker = open_worker(
        app.root,
        here,
        options=WorkOptions(max_runtime_s=max_runtime_s, allow_cpu=allow_cpu, jobs=jobs),
        stop=stop,
        say=lambda text: say(f"driverun: {text}"),
        show=(lambda _: None) if quiet else lambda line: say(f"  | {line}", colours=True),
        show_progress=lambda what: show_progress(f"driverun: {what}", here.clock),
        wrap_store=wrap_for_drill(here.environment),
    )

    def on_signal(number: int, _: object) -> None:
        again = stop.stop is not None
        stop.ask(Stop.USER if number == signal.SIGINT else Stop.TERM)
        say("driverun: abandoned" if again else "driverun: committing and handing over; once more to abandon")

    with asked_to_stop(on_signal):
        worked = worker.work(Mode(mode))
    for run_id, outcome in worked.outcomes.items():
        echo(f"{run_id} {outcome.state.value}" + (f" {outcome.reason}" if outcome.reason else ""))
    for run_id, why in worked.left.items():
        say(f"driverun: left: {run_id}: {why}")
    if worked.stop is Stop.USER:
        sys.exit(EXIT_STOPPED)
    if worked.any_failed:
        sys.exit(EXIT_NO)
    if worked.left and not (mode == "once" and worked.outcomes):
        sys.exit(EXIT_LEFT)


@main.command()
@click.argument("run")
@root_option
@click.pass_obj
def cancel(app: App, run: str) -> None:
    """Stop RUN for good. Its worker sees it at the next heartbeat."""
    echo(app.client().cancel(run))


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("run")
@click.argument("priority", type=int)
@root_option
@click.pass_obj
def priority(app: App, run: str, priority: int) -> None:
    """Put RUN before runs of a lower PRIORITY, such as 10 or -5; those of the same go by age."""
    echo(app.client().prioritize(run, priority))


@main.command()
@click.argument("run")
@click.option("--fresh", is_flag=True, help="Start over, not from the last checkpoint.")
@root_option
@click.pass_obj
def retry(app: App, run: str, fresh: bool) -> None:
    """Take RUN up again after it failed or was cancelled, with its job's code as it is now."""
    client = app.client()
    run_id = client.retry(run, fresh=fresh)
    say(client.takes_up(run_id))
    echo(run_id)
