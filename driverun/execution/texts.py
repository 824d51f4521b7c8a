"""The log and the metrics of one attempt, on their way to the root with no secret in them."""

from __future__ import annotations

from collections.abc import Callable

from driverun.errors import StoreError
from driverun.execution.context import WorkerContext
from driverun.execution.trouble import Trouble
from driverun.report.curves import REPORTED
from driverun.runs.layout import AttemptKey
from driverun.spool.events import Event
from driverun.spool.masking import Masker
from driverun.transfer.segments import SegmentWriter


class Texts:
    """Takes texts from any thread without waiting for the root, and puts them there when it is told to."""

    def __init__(self, context: WorkerContext, key: AttemptKey, masker: Masker) -> None:
        self._show = context.show
        self._masker = masker
        self._log = SegmentWriter(context.store, key.log_segment, context.clock)
        self._metrics = SegmentWriter(context.store, key.metrics_segment, context.clock)
        self._trouble = Trouble(context.say, context.clock)

    def take_line(self, line: str) -> None:
        """One line of the job's output: it is shown, and goes into the log."""
        line = self._masker.text(line)
        self._log.append(line + "\n")
        self._show(line)

    def note(self, text: str) -> None:
        """A line of driverun's own in the log, for the job's owner."""
        self._log.append(f"[driverun] {self._masker.text(text)}\n")

    def masked(self, event: Event) -> Event:
        return event.masked(self._masker)

    def report(self, event: Event) -> None:
        """Keep the event with the metrics, if a report is made of its kind."""
        if event.kind.value in REPORTED:
            self._metrics.append(event.line + "\n")

    def flush_if_due(self) -> None:
        """Put on the root what has waited long enough."""
        self._put(SegmentWriter.flush_if_due)

    def flush(self) -> None:
        """Put on the root all that waits."""
        self._put(SegmentWriter.flush)

    def _put(self, put: Callable[[SegmentWriter], bool]) -> None:
        """A root that does not let us is no reason to end an attempt: what waits is put there later."""
        for texts in (self._log, self._metrics):
            try:
                put(texts)
            except StoreError as exc:
                self._trouble.met(exc, f"logs are kept here for now: {exc}")
