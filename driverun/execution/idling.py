"""How long a worker that has nothing to do looks away."""

from __future__ import annotations

SHORTEST_S = 1.0  #: after something has changed
GROWTH = 1.5  #: of the pause, at each look that shows nothing new
LONGEST_S = 15.0  #: where listings lag, as on Drive: each look is a request
LONGEST_ON_FOLDER_S = 5.0  #: where they do not


class Idling:
    """Pauses that grow while nothing happens."""

    def __init__(self, *, listing_lag_s: float) -> None:
        self._longest_s = LONGEST_S if listing_lag_s > 0 else LONGEST_ON_FOLDER_S
        self._seen: object = None
        self._pause_s = SHORTEST_S

    def pause_s(self, seen: object) -> float:
        """Until the next look, in seconds, after one that showed `seen`."""
        if seen != self._seen:
            self._seen, self._pause_s = seen, SHORTEST_S
        else:
            self._pause_s = min(GROWTH * self._pause_s, self._longest_s)
        return self._pause_s
