"""Explores more than the tests have time for: `python -m tests.model [--most STATES] [NAME ...]`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.model.explore import Explorer
from tests.model.program import Snapshots
from tests.model.scenarios import LONG, SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the scenarios' names; none: all")
    parser.add_argument("--most", type=int, default=1_000_000, help="states of each scenario")
    parser.add_argument("--rescue-every", type=int, default=20, help="roots")
    options = parser.parse_args()
    is_broken = False
    with tempfile.TemporaryDirectory() as folder:
        snapshots = Snapshots.make(Path(folder), 3)
        for scenario in (*(each for each, _ in SCENARIOS), *LONG):
            if options.names and not any(name in scenario.name for name in options.names):
                continue
            began_s = time.process_time()
            explored = Explorer(scenario, snapshots).explore(
                most=options.most, rescue_every=options.rescue_every
            )
            is_broken = is_broken or explored.violation is not None
            print(f"{explored} [{time.process_time() - began_s:.0f} s]", flush=True)  # noqa: T201 - its output
    return int(is_broken)


if __name__ == "__main__":
    sys.exit(main())
