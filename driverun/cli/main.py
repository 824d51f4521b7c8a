"""The `driverun` command and what its subcommands share.

Everything but click is imported inside the commands: `driverun --help` has to be there at once.
"""

from __future__ import annotations

import atexit
import gc
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from driverun import __version__

if TYPE_CHECKING:
    from driverun.assembly import Surroundings
    from driverun.execution.board import Board
    from driverun.execution.client import Client

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_LEFT = 3
EXIT_UNREACHABLE = 75
EXIT_STOPPED = 130


class App:
    """What the options before a command said, and what commands need."""

    def __init__(self) -> None:
        self.root: str | None = None
        self.verbose = False
        #: Not taken apart before the process ends: with 10,000 runs that takes a tenth of a second. Whence the circle.
        self._kept: list[object] = [self]

    @property
    def here(self) -> Surroundings:
        from driverun.assembly import Surroundings

        return Surroundings.here()

    def client(self) -> Client:
        from driverun.assembly import open_client

        return open_client(self.root, self.here)

    def board(self) -> Board:
        from driverun.assembly import open_board

        board = open_board(self.root, self.here)
        self._kept.append(board)
        return board

    @property
    def is_terminal(self) -> bool:
        return sys.stdout.isatty()


def say(text: str, *, colours: bool = False) -> None:
    """Talk goes to stderr. It may tell of names that others have chosen."""
    from driverun.report.shown import shown

    click.echo(shown(text, colours=colours), err=True)


def echo(text: object, *, nl: bool = True) -> None:
    """Data go to stdout. Colours are our own; what others have chosen is in it, too."""
    from driverun.report.shown import shown

    click.echo(shown(str(text), colours=True), nl=nl)


class _ShownFormatter(logging.Formatter):
    """What is logged tells of names that others have chosen."""

    def format(self, record: logging.LogRecord) -> str:
        from driverun.report.shown import shown

        return shown(super().format(record))


def _take_root(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        context.ensure_object(App).root = value
    return value


def root_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """`--root`, which may stand before or after the command."""
    return click.option(
        "--root",
        metavar="ROOT",
        expose_value=False,
        callback=_take_root,
        help="The root: a folder, gdrive:path/under/My Drive or gdrive://FOLDER_ID. "
        "Default: $DRIVERUN_ROOT, else the nearest one above the current folder.",
    )(function)


class DriverunGroup(click.Group):
    """Turns driverun's errors into a line and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        from driverun.errors import DriverunError, TransientStoreError, UsageError

        try:
            return super().invoke(context)
        except UsageError as exc:
            self._fail(context, exc, EXIT_USAGE)
        except TransientStoreError as exc:
            self._fail(context, exc, EXIT_UNREACHABLE)
        except DriverunError as exc:
            self._fail(context, exc, EXIT_NO)
        except KeyboardInterrupt:
            say("stopped")
            context.exit(EXIT_STOPPED)
        except BrokenPipeError:
            # Whoever read our output has gone, as `| head` does; Python would complain once more while it ends.
            sys.stdout = None
            context.exit(0)
        except OSError as exc:
            # Something on this machine: a folder that is missing, no right to write, no room on the disk.
            self._fail(context, exc, EXIT_NO, text=_machine_error(context, exc))

    def _fail(self, context: click.Context, exc: Exception, code: int, *, text: str | None = None) -> None:
        if context.ensure_object(App).verbose:
            import traceback

            traceback.print_exception(exc)
        else:
            say(f"driverun: {text or exc}")
        context.exit(code)


def _machine_error(context: click.Context, exc: OSError) -> str:
    """What became of the command where the operating system refused something."""
    places = " and ".join(str(place) for place in (exc.filename, exc.filename2) if place is not None)
    why = f"{places}: {exc.strerror}" if places and exc.strerror else str(exc) or type(exc).__name__
    return (
        f"cannot finish {context.invoked_subcommand}: {why}. See that the place is there, has room and may be written"
        " to, then give the command again; `driverun -v` shows where it happened."
    )


@click.group(cls=DriverunGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="driverun")
@click.option("-v", "--verbose", is_flag=True, help="Show the trace of an error.")
@root_option
@click.pass_context
def main(context: click.Context, verbose: bool) -> None:
    """Training jobs that live in a folder: stop them anywhere, they go on at the step they lost."""
    context.ensure_object(App).verbose = verbose
    # Python's last collection would go through every run that was listed, to find nothing; with 10,000 it takes 0.2 s.
    atexit.register(gc.freeze)
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_ShownFormatter())


from driverun.cli import (  # noqa: E402 (they add theirs)
    approving,  # noqa: F401
    dev_drive,  # noqa: F401
    inspecting,  # noqa: F401
    launching,  # noqa: F401
    login,  # noqa: F401
    rehearsing,  # noqa: F401
    scheduling,  # noqa: F401
    ticking,  # noqa: F401
    working,  # noqa: F401
)
