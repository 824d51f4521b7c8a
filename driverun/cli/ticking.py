"""The command for cron, systemd timers and CI: tick."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from driverun.cli.launching import vm_options
from driverun.cli.main import EXIT_UNREACHABLE, App, echo, main, root_option, say
from driverun.cli.working import work_options


@main.command()
@work_options("Hand over after so long, as in 25m. Default: 50m.")
@click.option("--launch", "by_launch", is_flag=True, help="Work with Colab VMs, started where there is need.")
@vm_options
@click.option("--quiet", is_flag=True, help="Print nothing where there was nothing to do.")
@click.option("--verbose", "is_verbose", is_flag=True, help="Tell what is done as well, on stderr.")
@root_option
@click.pass_obj
def tick(
    app: App,
    max_runtime_s: float | None,
    allow_cpu: bool,
    jobs: tuple[str, ...],
    by_launch: bool,
    gpus: str,
    max_hours: float,
    min_units: float,
    colab: Path | None,
    quiet: bool,
    is_verbose: bool,
) -> None:
    """Make the runs that are due, work while there is something to do, and say in one line what happened.

    Exits with 0 when all is done or there was nothing to do, 1 if a run failed, 3 if it was stopped with work left, 75
    if the root is out of reach. A second one on the same root and machine leaves at once, with 0.
    """
    from driverun.assembly import WorkOptions
    from driverun.cli.launching import launch_of
    from driverun.errors import TransientStoreError, UsageError
    from driverun.execution.context import Stop, StopSignal
    from driverun.launchers.signals import asked_to_stop
    from driverun.launchers.tick import MAX_RUNTIME_S, patience_s, tick_by_launch
    from driverun.launchers.tick import tick as pass_over
    from driverun.report.summary import timestamp

    here, stop = app.here, StopSignal()

    def stamped(text: str) -> str:
        return f"{timestamp(here.clock.now())} tick: {text}"

    def talk(text: str) -> None:
        if is_verbose:
            say(stamped(text))

    if by_launch and (max_runtime_s is not None or jobs or not allow_cpu):
        raise UsageError("--launch works on all of the queue, on VMs with a GPU; its time is --max-hours")
    options = WorkOptions(
        max_runtime_s=MAX_RUNTIME_S if max_runtime_s is None else max_runtime_s,
        allow_cpu=allow_cpu,
        jobs=jobs,
        patience_s=patience_s(here),
    )

    def on_signal(number: int, _: object) -> None:
        stop.ask(Stop.USER if number == signal.SIGINT else Stop.TERM)

    try:
        with asked_to_stop(on_signal, also=(signal.SIGHUP,)):
            if by_launch:
                ticked = tick_by_launch(
                    app.root,
                    here,
                    lambda: launch_of(app, gpus, max_hours, min_units, colab, stop=stop, say=talk, show=talk),
                    say=talk,
                )
            else:
                ticked = pass_over(app.root, here, options=options, stop=stop, say=talk, show=talk)
    except TransientStoreError as exc:
        echo(stamped(f"the root is out of reach: {exc}"))
        sys.exit(EXIT_UNREACHABLE)
    if not (quiet and ticked.is_idle):
        echo(stamped(ticked.text))
    sys.exit(ticked.result.value)
