"""A bar for transfers on a terminal, lines elsewhere."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from driverun.cli.main import say

if TYPE_CHECKING:
    from driverun.clock import Clock
    from driverun.transfer.progress import OnProgress, Progress

_REDRAW_S = 0.1
_WIDTH = 24


def show_progress(what: str, clock: Clock) -> OnProgress:
    """Show how far the transfer of `what` is: a bar that is drawn over and over, or a line now and then.

    Both go to stderr. What is over at once is not shown.
    """
    from driverun.transfer.progress import progress_lines

    if not sys.stderr.isatty():
        return progress_lines(say, clock, what=what)
    began_s = drawn_s = clock.monotonic()
    is_shown = False

    def draw(progress: Progress) -> None:
        nonlocal drawn_s, is_shown
        now_s = clock.monotonic()
        is_due = now_s - drawn_s >= _REDRAW_S and now_s - began_s >= 1.0
        if not is_due and not (is_shown and progress.is_done):
            return
        drawn_s, is_shown = now_s, not progress.is_done
        columns = shutil.get_terminal_size().columns
        sys.stderr.write(f"\r{bar_text(what, progress)[: columns - 1]}\x1b[K")
        sys.stderr.write("\n" if progress.is_done else "")
        sys.stderr.flush()

    return draw


def bar_text(what: str, progress: Progress) -> str:
    """One line: what it is, a bar, and the numbers."""
    share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 1.0
    filled = round(_WIDTH * min(1.0, share))
    return f"{what} [{'#' * filled}{'.' * (_WIDTH - filled)}] {progress}"
