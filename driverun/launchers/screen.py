"""What a notebook's cell shows: one piece of text that is drawn anew, as plain text and as HTML."""

from __future__ import annotations

import html
import sys
from typing import Any

from driverun.report.shown import shown

_STYLE = "white-space:pre-wrap;line-height:1.35;margin:0"


class Screen:
    """The output of the cell that is running; lines on standard output where there is no notebook."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._text = ""
        try:
            from IPython.core.getipython import get_ipython
            from IPython.display import display
        except ImportError:
            return
        if get_ipython() is not None:
            self._handle = display(_bundle(""), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    @property
    def text(self) -> str:
        """What is shown."""
        return self._text

    def show(self, text: str) -> None:
        """Show `text` in place of what was shown. It may be called from any thread."""
        text = shown(text)
        if text == self._text:
            return
        self._text = text
        if self._handle is not None:
            self._handle.update(_bundle(text), raw=True)
        else:
            sys.stdout.write(f"{text}\n\n")
            sys.stdout.flush()


def _bundle(text: str) -> dict[str, str]:
    return {"text/plain": text, "text/html": f'<pre style="{_STYLE}">{html.escape(text)}</pre>'}
