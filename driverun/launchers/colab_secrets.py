"""Secrets that a person keeps in Colab, behind the key in its left margin."""

from __future__ import annotations

from driverun.clock import Clock
from driverun.execution.secrets import Answer

AWAY_S = 120.0  #: for which a page that did not answer is left alone: each question takes ten seconds


class ColabSecrets:
    """Asks the notebook's page, from the kernel that the cell runs in."""

    advice = "the key in Colab's left margin, as {name}, with notebook access switched on"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._away_until_s = clock.monotonic()
        self._away = ""

    def look_up(self, name: str) -> Answer:
        if self._clock.monotonic() < self._away_until_s:
            return Answer(why=self._away)
        try:
            from google.colab import userdata
        except ImportError:
            return Answer()
        try:
            return Answer(value=userdata.get(name))
        except userdata.SecretNotFoundError:
            return Answer()
        except userdata.NotebookAccessError:
            return Answer(
                why="is kept in Colab, but this notebook may not have it: switch its notebook access on"
            )
        except Exception as exc:  # the page is closed, or this is no kernel of Colab's UI
            self._away = f"cannot be asked of Colab, whose page does not answer ({exc})"
            self._away_until_s = self._clock.monotonic() + AWAY_S
            return Answer(why=self._away)
