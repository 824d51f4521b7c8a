"""What a root of many runs costs, and how fast runs that do nothing go through it.

    make bench BENCH=queue     # RUNS=100,1000,10000 WORKERS=1,4,16 WINDOW_S=120 LATENCY_MS=100

The Drive is the emulator, as a process of its own, and everything that is measured is a process of its own, too. The
roots are put into the emulator's state; see driverun/testing/many_runs.py for what they hold. Requests are those in
the emulator's log without those for tokens, CPU is user and system time with the start of Python (of the command, to
its exit), peak is the largest resident set. Modules of the emulator are loaded by nobody who is measured.

For the runs through the queue, Drive takes three writes a second of an account, as the real one does; what it takes
at most follows from the writes that one run needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from driverun.assembly import Surroundings
from driverun.clock import SystemClock
from driverun.storage.drive.opening import ENDPOINT_VARIABLE  # which whoever is measured loads anyway

COLD_REQUESTS = 40
WARM_REQUESTS = 1
CPU_S = 3.0
PEAK_BYTES = 200_000_000
WRITES_PER_S = 3.0
ROOT_NAME = "bench"
ROOT = f"gdrive:{ROOT_NAME}"
WRITES = ("drive.files.insert", "drive.files.update", "drive.files.delete", "drive.files.patch")


def main() -> int:
    """Measure, print, and say whether it is within what it has to be."""
    counts = [int(each) for each in os.environ.get("RUNS", "100,1000,10000").split(",") if each]
    workers = [int(each) for each in os.environ.get("WORKERS", "1,4,16").split(",") if each]
    window_s, latency_ms = (
        float(os.environ.get("WINDOW_S", "120")),
        float(os.environ.get("LATENCY_MS", "100")),
    )
    met = True

    def check(target: str, is_met: bool, value: str) -> None:
        nonlocal met
        met = met and is_met
        print(f"{'met   ' if is_met else 'MISSED'}  {target}: {value}", flush=True)

    with tempfile.TemporaryDirectory(prefix="driverun-bench-") as name:
        if counts:
            print(f"{'':<42} {'requests':>9} {'CPU s':>7} {'peak MB':>8}", flush=True)
        for count in counts:
            _look_at(Path(name) / str(count), count, check)
        if workers:
            _go_through(Path(name), workers, window_s=window_s, latency_ms=latency_ms, check=check)
    return 0 if met else 1


def _look_at(folder: Path, count: int, check: Callable[[str, bool, str], None]) -> None:
    from driverun.testing.drive_emulator.client import AdminClient

    _in_a_process("fill", str(folder), str(count), "usual")
    with _emulator(folder) as url:
        admin = AdminClient(url)
        for what, measurement in (("driverun status", "looks"), ("a worker's choice", "choices")):
            admin.clear_requests()
            found = {"cold": _status_command(url)} if measurement == "looks" else {}
            found |= _in_a_process(measurement, url, str(folder))
            for how in ("cold", "warm"):
                one = found[how]
                print(
                    f"{f'{count:,} runs: {what}, {how}':<42} {one['requests']:>9} {one['cpu_s']:>7.2f}"
                    f" {one['peak_bytes'] / 1e6:>8.0f}",
                    flush=True,
                )
            if count >= 10_000:
                cold, warm = found["cold"], found["warm"]
                check(
                    f"{what} of {count:,} runs within {COLD_REQUESTS} requests cold",
                    cold["requests"] <= COLD_REQUESTS,
                    str(cold["requests"]),
                )
                check(f"and {WARM_REQUESTS} warm", warm["requests"] <= WARM_REQUESTS, str(warm["requests"]))
                check(f"under {CPU_S:g} s of CPU", cold["cpu_s"] < CPU_S, f"{cold['cpu_s']:.2f} s")
                peak = max(cold["peak_bytes"], warm["peak_bytes"])
                check(f"under {PEAK_BYTES / 1e6:g} MB", peak < PEAK_BYTES, f"{peak / 1e6:.0f} MB")


def _go_through(
    folder: Path,
    workers: list[int],
    *,
    window_s: float,
    latency_ms: float,
    check: Callable[[str, bool, str], None],
) -> None:
    print(f"\nruns that do nothing, {WRITES_PER_S:g} writes a second, {latency_ms:g} ms for each request")
    print(
        f"{'workers':>8} {'runs a minute':>14} {'writes a run':>13} {'ceiling':>8} {'refused':>8}", flush=True
    )
    for count in workers:
        place = folder / f"workers-{count}"
        _in_a_process("fill", str(place), str(max(20, round(window_s))), "queued")
        options = ("--writes-per-second", f"{WRITES_PER_S:g}", "--latency-ms", f"{latency_ms:g}")
        with _emulator(place, *options) as url:
            found = _work(url, place, count, window_s)
        ceiling = 60 * WRITES_PER_S / found["writes_a_run"] if found["writes_a_run"] else 0.0
        print(
            f"{count:>8} {found['per_minute']:>14.1f} {found['writes_a_run']:>13.1f} {ceiling:>8.1f}"
            f" {found['refused']:>8}",
            flush=True,
        )
        check(f"{count} workers: no run failed", found["failed"] == 0, str(found["failed"]))


def _work(url: str, place: Path, count: int, window_s: float) -> dict[str, Any]:
    """Let so many workers work, each a process on a machine of its own name; what came of it."""
    from driverun.assembly import open_client
    from driverun.runs.record import AttemptState
    from driverun.runs.state import RunState
    from driverun.testing.drive_emulator.client import AdminClient

    admin = AdminClient(url)
    here = _here(url, place)
    began = datetime.now(UTC)
    processes = []
    for number in range(count):
        environment = {
            **os.environ,
            ENDPOINT_VARIABLE: url,
            "DRIVERUN_WORKDIR": str(place / f"machine-{number}"),
            "DRIVERUN_HOST": f"machine-{number}",
        }
        command = [sys.executable, "-m", "driverun", "--root", ROOT, "work", "--quiet"]
        log = (place / f"machine-{number}.log").open("wb")
        processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    try:
        time.sleep(window_s)
        records = admin.requests()
        runs = open_client(ROOT, here).runs()
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
    ended = sorted(
        attempt.ended_at
        for run in runs
        for attempt in run.attempts
        if attempt.state is AttemptState.SUCCEEDED and attempt.ended_at is not None
    )
    writes = [record for record in records if record.method_id in WRITES and record.status == 200]
    started = sum(len(run.attempts) for run in runs)
    span_s = (ended[-1] - began).total_seconds() if ended else window_s
    return {
        "per_minute": 60 * len(ended) / span_s,
        "writes_a_run": len(writes) / started if started else 0.0,
        "refused": sum(record.status == 403 for record in records),
        "failed": sum(run.state is RunState.FAILED for run in runs),
    }


# What is measured, each in a process of its own.


def _status_command(url: str) -> dict[str, Any]:
    """The command as a person gives it."""
    command = [sys.executable, "-m", "driverun", "--root", ROOT, "status"]
    environment = {**os.environ, ENDPOINT_VARIABLE: url}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"driverun status ended with {process.returncode}")
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "requests": _requests(url),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": peak_bytes,
    }


def fill(folder: str, count: str, kind: str) -> dict[str, Any]:
    """Put a root of so many runs into the state of an emulator."""
    from driverun.runs.state import RunState
    from driverun.storage.drive.opening import EMULATED_TOKEN
    from driverun.testing.drive_emulator.state import State
    from driverun.testing.many_runs import USUAL_MIX, files_of_many_runs, put_into_drive

    state = State(Path(folder), clock=SystemClock(), seed=0, listing_lag_s=lambda: 0.0)
    mix = USUAL_MIX if kind == "usual" else {RunState.QUEUED: 1.0}
    # Or those at work would be quiet, and looked up one by one.
    now = datetime.now(UTC) + timedelta(minutes=10)
    files = files_of_many_runs(int(count), now=now, mix=mix)
    put_into_drive(state, files, account=EMULATED_TOKEN.removeprefix("user:"), root=ROOT_NAME)
    state.close()
    return {}


def looks(url: str, folder: str) -> dict[str, Any]:
    """The look of somebody who has looked before."""
    from driverun.assembly import open_board

    board = open_board(ROOT, _here(url, Path(folder)))
    board.overview(most=200)
    return {"warm": _again(url, lambda: board.overview(most=200))}


def choices(url: str, folder: str) -> dict[str, Any]:
    """The look of a worker, which ends with its choice; then its next."""
    from driverun.assembly import WorkOptions, open_worker
    from driverun.execution.context import StopSignal
    from driverun.execution.worker import Worked

    worker = open_worker(
        ROOT,
        _here(url, Path(folder)),
        options=WorkOptions(),
        stop=StopSignal(),
        say=lambda _: None,
        show=lambda _: None,
    )
    chosen, *_ = worker._look(Worked())
    assert chosen.run_id is not None, "many are queued"
    cold = _measured(url)
    return {"cold": cold, "warm": _again(url, lambda: worker._look(Worked()))}


def _again(url: str, look: Callable[[], object]) -> dict[str, Any]:
    from driverun.storage.drive.store import LISTING_LAG_S
    from driverun.testing.drive_emulator.client import AdminClient

    # By then, what is new in the folders is listed once more, as they may have lagged.
    time.sleep(LISTING_LAG_S + 1)
    look()
    time.sleep(1.5)  # as a worker waits; looks within a second share a request
    AdminClient(url).clear_requests()
    before_s = _cpu_s()
    look()
    return {**_measured(url), "cpu_s": _cpu_s() - before_s}


def _measured(url: str) -> dict[str, Any]:
    cpu_s, peak_bytes = _cpu_s(), _peak_bytes()
    return {"requests": _requests(url), "cpu_s": cpu_s, "peak_bytes": peak_bytes}


def _requests(url: str) -> int:
    from driverun.testing.drive_emulator.client import AdminClient

    counts = Counter(AdminClient(url).counts())
    counts.pop("token", None)
    return sum(counts.values())


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


# How.


def _in_a_process(measurement: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-P", __file__, measurement, *arguments]  # or it would be the module queue
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{measurement} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def _emulator(folder: Path, *options: str) -> Iterator[str]:
    command = [sys.executable, "-m", "driverun", "dev-drive", "--state", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def _here(url: str, folder: Path) -> Surroundings:
    return Surroundings(environment={ENDPOINT_VARIABLE: url}, cwd=folder, home=folder, clock=SystemClock())


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
        sys.exit(0)
    sys.exit(main())
