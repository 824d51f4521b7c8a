"""The folder by which a test tells the stand-in what to do, and is told what was done.

settings.json   how calls go: written by the test alone, read at each call
journal.jsonl   a line for each call, appended
cloud/          My Drive as everybody sees it
vm/             what the runtime has on its disk, and loses with it
"""

import fcntl
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

VARIABLE = "COLAB_STAND_IN"  #: names the folder
SETTINGS_NAME = "settings.json"
JOURNAL_NAME = "journal.jsonl"

#: What settings.json says unless somebody wishes otherwise.
DEFAULTS: Mapping[str, Any] = {
    "hosted": True,  # False: a kernel of one's own that Colab's page is connected to
    "kernel_needed": True,  # False: any process may do what in Colab only the kernel can
    "faults": [],
    "faults_ordered": 0,
    "secrets": {},
}


def folder() -> Path:
    """Return the folder.

    Raises:
        RuntimeError: the environment names none.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        raise RuntimeError(
            f"{VARIABLE} is not set: this google.colab is driverun's stand-in, and lives in a folder; see ColabStandIn"
        )
    return Path(named)


def settings() -> dict[str, Any]:
    """Return how calls go at this moment."""
    return read_settings(folder())


def read_settings(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / SETTINGS_NAME).read_bytes())
    except FileNotFoundError:
        found = {}
    return {**DEFAULTS, **found}


def write_call(name: str, arguments: Mapping[str, object]) -> dict[str, Any] | None:
    """Put a call into the journal; return the fault that it meets, if any.

    A fault is used up by being met, whether or not the call comes as far as the place where it shows.
    """
    here = folder()
    with (here / JOURNAL_NAME).open("a+b") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)  # two processes shall not both meet a fault that happens once
        journal.seek(0)
        met = [line["fault"] for line in map(json.loads, journal)]
        fault = next(
            (
                one
                for one in read_settings(here)["faults"]
                if one["call"] == name and (one["times"] is None or met.count(one["id"]) < one["times"])
            ),
            None,
        )
        line = {
            "at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "name": name,
            "arguments": dict(arguments),
            "pid": os.getpid(),
            "fault": fault["id"] if fault is not None else None,
        }
        journal.write(json.dumps(line, default=repr).encode() + b"\n")
    return fault
