"""Drive's clock, as far as its answers tell."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from driverun.clock import Clock

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE_STEP_S = 1.0  # a Date header names the second that has begun


class ServerTime:
    """Never ahead of Drive's clock, never behind a time that Drive has told of, and never going back.

    Drive's clock is the monotonic one plus an offset. Every time in an answer is a lower bound of it, less exact by
    how long the answer took; the highest bound is used. A Date also bounds it from above, so that a monotonic clock
    that runs fast is noticed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s: float | None = None
        self._shown_s = 0.0
        self._heard_s: float | None = None
        self._turn = threading.Lock()

    @property
    def age_s(self) -> float | None:
        """For how long no answer has told the time; None if none ever has."""
        with self._turn:
            return None if self._heard_s is None else self._clock.monotonic() - self._heard_s

    def hear_date(self, header: str | None, *, sent_s: float) -> None:
        """Take note of the Date of an answer that has just come to a request sent at `sent_s`, monotonic."""
        if header is None:
            return
        try:
            date_s = parsedate_to_datetime(header).timestamp()
        except (TypeError, ValueError):
            return
        with self._turn:
            received_s = self._clock.monotonic()
            lowest_s, highest_s = date_s - received_s, date_s + _DATE_STEP_S - sent_s
            known_s = self._offset_s
            self._offset_s = lowest_s if known_s is None else min(max(known_s, lowest_s), highest_s)
            self._heard_s = received_s

    def hear_stamp(self, stamp: datetime) -> None:
        """Take note of a time that Drive gave to an object."""
        with self._turn:
            stamp_s = (stamp - _EPOCH) / timedelta(seconds=1)
            lowest_s = stamp_s - self._clock.monotonic()
            self._offset_s = lowest_s if self._offset_s is None else max(self._offset_s, lowest_s)

    def now(self) -> datetime:
        """The time. Some answer must have told it before."""
        with self._turn:
            assert self._offset_s is not None, "no answer has told the time yet"
            self._shown_s = max(self._shown_s, self._clock.monotonic() + self._offset_s)
            return _EPOCH + timedelta(microseconds=round(self._shown_s * 1e6))
