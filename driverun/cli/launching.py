"""The command that starts VMs elsewhere: launch."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from driverun.cli.main import EXIT_LEFT, EXIT_NO, EXIT_STOPPED, App, echo, main, root_option, say

if TYPE_CHECKING:
    from driverun.execution.context import StopSignal
    from driverun.launchers.colab_cli_launch import Launch


def vm_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What VMs are to be had, and for how much: gpus, max_hours, min_units, colab."""
    for option in reversed(_VM_OPTIONS):
        function = option(function)
    return function


_VM_OPTIONS = (
    click.option(
        "--gpu",
        "gpus",
        default="T4,L4",
        show_default=True,
        help="Asked for in this order: T4, L4, G4, A100, H100.",
    ),
    click.option(
        "--max-hours",
        type=click.FloatRange(min=0, min_open=True),
        default=11.0,
        show_default=True,
        help="For all VMs together.",
    ),
    click.option(
        "--min-units",
        type=click.FloatRange(min=0),
        default=1.0,
        show_default=True,
        help="Leave so many compute units.",
    ),
    click.option("--colab", metavar="PATH", type=click.Path(path_type=Path), help="Where `colab` is."),
)


def launch_of(
    app: App,
    gpus: str,
    max_hours: float,
    min_units: float,
    colab: Path | None,
    *,
    stop: StopSignal,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> Launch:
    """The launch that these options ask for. Raises UsageError."""
    from driverun.launchers.colab_cli_launch import Launch, LaunchOptions, find_colab
    from driverun.launchers.colab_cli_process import ProgramCommands

    here = app.here
    commands = ProgramCommands(
        find_colab(colab, here.environment), environment=here.environment, clock=here.clock
    )
    return Launch(
        app.root,
        LaunchOptions(gpus=tuple(gpus.split(",")), max_runtime_s=3600 * max_hours, min_units=min_units),
        here,
        commands=commands,
        new_name=lambda: f"driverun-{secrets.token_hex(4)}",
        stop=stop,
        say=say,
        show=show,
    )


@main.command()
@vm_options
@click.option("--quiet", is_flag=True, help="Do not show what the VM prints.")
@root_option
@click.pass_obj
def launch(app: App, gpus: str, max_hours: float, min_units: float, colab: Path | None, quiet: bool) -> None:
    """Work on the queue with Colab VMs, started from here by Google's `colab` command.

    This way is for people who pay for compute units: it uses them up, and Colab's free runtimes may not be used
    without the notebook's own interface. Ctrl-C gives the VM back.
    """
    from driverun.execution.context import Stop, StopSignal
    from driverun.launchers.colab_cli_launch import End
    from driverun.launchers.signals import asked_to_stop

    stop = StopSignal()
    started = launch_of(
        app,
        gpus,
        max_hours,
        min_units,
        colab,
        stop=stop,
        say=lambda text: say(f"driverun: {text}"),
        show=(lambda _: None) if quiet else lambda line: say(f"  | {line}", colours=True),
    )

    def on_signal(number: int, _: object) -> None:
        stop.ask(Stop.USER if number == signal.SIGINT else Stop.TERM)
        say("driverun: giving the VM back; the run goes on from its last checkpoint another time")

    # A terminal that is closed is no reason to leave a VM behind.
    with asked_to_stop(on_signal, also=(signal.SIGHUP,)):
        launched = started.run()
    vms = "1 VM" if launched.vms == 1 else f"{launched.vms} VMs"
    echo(f"{launched.end.value} ({vms})")
    for run_id, why in launched.failed.items():
        echo(f"{run_id} FAILED {why}")
    for run_id, why in launched.left.items():
        say(f"driverun: left: {run_id}: {why}")
    if launched.end is End.STOPPED:
        sys.exit(EXIT_STOPPED)
    if launched.failed or launched.unreleased:
        sys.exit(EXIT_NO)
    if launched.left and (launched.vms or launched.end is not End.DONE):
        sys.exit(EXIT_LEFT)
