"""An attempt's record on the root: its heartbeat, and in the end its outcome."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from driverun.clock import Clock
from driverun.errors import ObjectExists
from driverun.runs.heads import head_of
from driverun.runs.record import AttemptState, Record
from driverun.storage.base import ObjectStore


class RecordKeeper:
    """The only writer of one record. It may be used from many threads.

    A write that fails raises, and what it was to say is said by the next one.
    """

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        record: Record,
    ) -> None:
        self._store = store
        self._clock = clock
        self._record = record
        self._turn = threading.Lock()
        self._outcome_given = False
        self._outcome_written = False

    @property
    def record(self) -> Record:
        """What was written last, or was to be."""
        return self._record

    @property
    def is_finished(self) -> bool:
        """Is the outcome on the root?"""
        return self._outcome_written

    def create(self) -> Record:
        """Write the record for the first time."""
        with self._turn:
            content = self._record.to_bytes()
            properties = head_of(self._record, content)
            try:
                self._store.create(self._record.key.record_file, content, properties=properties)
            except ObjectExists:  # nobody else writes under this name: an answer to us was lost
                self._store.replace(self._record.key.record_file, content, properties=properties)
            return self._record

    def beat(self, **changes: Any) -> bool:
        """Write the record with `changes`. False, and nothing is written, once an outcome was given."""
        if "state" in changes:
            raise ValueError("a heartbeat does not change the state of an attempt: call finish")
        with self._turn:
            if self._outcome_given:
                return False
            self._write(changes)
            return True

    def finish(self, state: AttemptState, **changes: Any) -> Record:
        """Write the record for the last time, with `state` and `changes`.

        If this raises a StoreError it may be called again; heartbeats are refused from the first call on.

        Raises:
            RuntimeError: the outcome is on the root already.
        """
        if not state.is_over:
            raise ValueError(f"{state.value} is no outcome")
        with self._turn:
            if self._outcome_written:
                raise RuntimeError(
                    f"the outcome of {self._record.key} is written: {self._record.state.value}"
                )
            self._outcome_given = True
            self._write({"ended_at": self._clock.now(), **changes, "state": state})
            self._outcome_written = True
            return self._record

    def _write(self, changes: Mapping[str, Any]) -> None:
        self._record = self._record.moved(**{"updated_at": self._clock.now(), **changes})
        content = self._record.to_bytes()
        properties = head_of(self._record, content)
        self._store.replace(self._record.key.record_file, content, properties=properties)
