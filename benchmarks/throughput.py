"""What a worker costs a training job: the bare script and the same script under driverun, in turn.

    make bench BENCH=throughput           # PAIRS=10 by default; MNIST=path of mnist.npz

Both sides run one copy of `jobs/mnist`, whose script has two lines around `fit` that read the clocks, and a few at its
exit that write them down. Each run is a process in a new folder, or a worker on a new root.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
JOB = REPOSITORY / "jobs" / "mnist"
SPEED_MAY_FALL_BY = 0.03
CPU_MAY_GROW_BY = 0.03
MEMORY_MAY_GROW_BY_BYTES = 50_000_000  #: and by two copies of the state
CHECKPOINTS_AT_LEAST = 5

BEFORE_SCRIPT = '''\
"""{title}"""
import atexit as _atexit
import json as _json
import resource as _resource
import time as _time

_measured = {{}}


def _write_down():
    _measured["process_cpu_s"] = _time.process_time()
    _measured["peak_bytes"] = _resource.getrusage(_resource.RUSAGE_SELF).ru_maxrss * {rss_unit}
    with open({times!r}, "w") as file:
        _json.dump(_measured, file)


_atexit.register(_write_down)
'''
BEFORE_FIT = "_began = _time.perf_counter(), _time.process_time()\n"
AFTER_FIT = (
    "_measured['fit_s'] = _time.perf_counter() - _began[0]\n"
    "_measured['fit_cpu_s'] = _time.process_time() - _began[1]\n"
    "_measured['steps'] = int(model.optimizer.iterations)\n"
    "_measured['state_bytes'] = sum(\n"
    "    int(np.asarray(v.value).nbytes) for v in [*model.variables, *model.optimizer.variables]\n"
    ")\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run of the job, bare or under driverun."""

    fit_s: float
    fit_cpu_s: float
    process_cpu_s: float  #: of the training process, to its exit
    all_cpu_s: (
        float  #: of everything that was started: the training process, and the worker where there is one
    )
    peak_bytes: int  #: of the training process
    steps: int
    state_bytes: int
    wall_s: float
    checkpoints: int = 0

    @property
    def steps_per_s(self) -> float:
        return self.steps / self.fit_s


def main() -> int:
    """Run the pairs and print what they say."""
    data = Path(os.environ.get("MNIST") or REPOSITORY.parent / "shared" / "data" / "mnist.npz").expanduser()
    if not data.is_file():
        print(f"{data} is not there: set MNIST to the path of an mnist.npz (Keras' file of that name)")
        return 2
    pairs = int(os.environ.get("PAIRS") or 10)
    with tempfile.TemporaryDirectory(prefix="driverun-throughput-") as folder:
        place = Path(folder)
        warm_up = run_bare(place / "warm-up", data)
        every = cadence_for(warm_up.fit_s)
        print(
            f"{pairs} pairs on {os.cpu_count()} cores, a checkpoint every {every}; one bare run before them"
        )
        print(
            f"{'pair':>4}  {'steps/s':>15}  {'fit CPU s':>13}  {'process CPU s':>13}  {'worker CPU s':>12}"
            f"  {'peak MB':>15}  {'checkpoints':>11}"
        )
        found: list[tuple[Measured, Measured]] = []
        for number in range(1, pairs + 1):
            sides: dict[str, Measured] = {}
            # Alternate which side goes first, so that a machine that grows warm or busy favours neither.
            for side in ("bare", "driverun") if number % 2 else ("driverun", "bare"):
                here = place / f"{number}-{side}"
                sides[side] = (
                    run_bare(here, data) if side == "bare" else run_under_driverun(here, data, every)
                )
                shutil.rmtree(here)
            found.append((sides["bare"], sides["driverun"]))
            print_pair(number, *found[-1])
    print_summary(found)
    return 0


def cadence_for(fit_s: float) -> str:
    """The job's own two seconds, or less where the machine is too fast for five checkpoints at that."""
    if fit_s >= 2.0 * (CHECKPOINTS_AT_LEAST + 2):
        return "2s"
    return (
        "1s" if fit_s >= CHECKPOINTS_AT_LEAST + 2 else f"{int(1000 * fit_s / (CHECKPOINTS_AT_LEAST + 2))}ms"
    )


def copy_job(target: Path, times: Path, every: str) -> None:
    """The job with a script that writes its times to `times` when it exits."""
    shutil.copytree(JOB, target, ignore=shutil.ignore_patterns("__pycache__", "data"))
    job_file = target / "job.yaml"
    settings = job_file.read_text(encoding="utf-8")
    # All checkpoints are kept, as otherwise nothing is left to count them by.
    job_file.write_text(settings.replace("{every: 2s}", f"{{every: {every}, keep: 1000}}"), encoding="utf-8")
    lines = (target / "train.py").read_text(encoding="utf-8").splitlines(keepends=True)
    (fit,) = [at for at, line in enumerate(lines) if line.startswith("model.fit(") and line.endswith(")\n")]
    head = BEFORE_SCRIPT.format(
        title="jobs/mnist with clocks",
        times=str(times),
        rss_unit=1 if sys.platform == "darwin" else 1024,
    )
    script = [head, *lines[:fit], BEFORE_FIT, lines[fit], AFTER_FIT, *lines[fit + 1 :]]
    (target / "train.py").write_text("".join(script), encoding="utf-8")


def environment() -> dict[str, str]:
    """That of both sides: this driverun, none of a person's own settings of it, no chatter of TensorFlow."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("DRIVERUN_")}
    found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), found.get("PYTHONPATH")]))
    found.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    return found


def run_bare(here: Path, data: Path) -> Measured:
    """`python train.py`, in a folder that holds the job's code and its data."""
    job, times = here / "mnist", here / "times.json"
    here.mkdir()
    copy_job(job, times, "2s")
    (job / "data").mkdir()
    shutil.copyfile(data, job / "data" / "mnist.npz")
    wall_s, cpu_s = timed([sys.executable, "train.py"], job, here / "log", environment())
    return measured(times, wall_s, cpu_s)


def run_under_driverun(here: Path, data: Path, every: str) -> Measured:
    """`driverun work --until-empty --quiet`, on a root that holds nothing but the job and its data."""
    job, root, times = here / "mnist", here / "root", here / "times.json"
    here.mkdir()
    copy_job(job, times, every)
    surroundings = {**environment(), "DRIVERUN_WORKDIR": str(here / "work"), "DRIVERUN_ROOT": str(root)}

    def driverun(*arguments: str) -> str:
        command = [sys.executable, "-m", "driverun", *arguments]
        done = subprocess.run(command, cwd=here, env=surroundings, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    driverun("init", str(root))
    driverun("upload", str(data), "data/mnist.npz")
    run_id = json.loads(driverun("submit", str(job), "--json"))["run_id"]
    work = [sys.executable, "-m", "driverun", "work", "--until-empty", "--quiet"]
    wall_s, cpu_s = timed(work, here, here / "log", surroundings)
    status = json.loads(driverun("status", run_id, "--json"))
    if status["state"] != "SUCCEEDED" or len(status["attempts"]) != 1:
        raise SystemExit(f"the run under driverun is {status['state']}: {status['reason']}")
    return measured(times, wall_s, cpu_s, checkpoints=len(status["checkpoints"]))


def timed(
    command: Sequence[str], folder: Path, log: Path, variables: Mapping[str, str]
) -> tuple[float, float]:
    """Wall and CPU seconds of a process with all that it waited for.

    Raises:
        SystemExit: it failed; its output is in the message.
    """
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(variables), stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{end}")
    return wall_s, used.ru_utime + used.ru_stime


def measured(times: Path, wall_s: float, cpu_s: float, checkpoints: int = 0) -> Measured:
    """What the script wrote down at its exit, with what was seen from outside."""
    values = json.loads(times.read_text(encoding="utf-8"))
    return Measured(**values, wall_s=wall_s, all_cpu_s=cpu_s, checkpoints=checkpoints)


def worker_cpu_s(bare: Measured, ours: Measured) -> float:
    """CPU seconds of the worker alone; both training processes end Python and TensorFlow after their last reading."""
    return (ours.all_cpu_s - ours.process_cpu_s) - (bare.all_cpu_s - bare.process_cpu_s)


def print_pair(number: int, bare: Measured, ours: Measured) -> None:
    """One line, the bare script's value first."""
    print(
        f"{number:>4}  {bare.steps_per_s:>7.1f} {ours.steps_per_s:>7.1f}"
        f"  {bare.fit_cpu_s:>6.2f} {ours.fit_cpu_s:>6.2f}"
        f"  {bare.process_cpu_s:>6.2f} {ours.process_cpu_s:>6.2f}"
        f"  {worker_cpu_s(bare, ours):>12.2f}"
        f"  {bare.peak_bytes / 1e6:>7.1f} {ours.peak_bytes / 1e6:>7.1f}"
        f"  {ours.checkpoints:>11}",
        flush=True,
    )


def print_summary(found: Sequence[tuple[Measured, Measured]]) -> None:
    """Medians with their quartiles, then a verdict on each target."""

    def ratios(value: Callable[[Measured], float]) -> list[float]:
        return [value(ours) / value(bare) for bare, ours in found]

    speed = ratios(lambda run: run.steps_per_s)
    fit_cpu = ratios(lambda run: run.fit_cpu_s)
    process_cpu = ratios(lambda run: run.process_cpu_s)
    all_cpu = ratios(lambda run: run.all_cpu_s)
    memory = [ours.peak_bytes - bare.peak_bytes for bare, ours in found]
    state_bytes = max(ours.state_bytes for _, ours in found)
    allowed = MEMORY_MAY_GROW_BY_BYTES + 2 * state_bytes
    checkpoints = [ours.checkpoints for _, ours in found]

    print("\ndriverun over bare, median [quartiles]")
    print(f"  steps per second in fit             {spread(speed)}")
    print(f"  CPU seconds in fit                  {spread(fit_cpu)}")
    print(f"  CPU seconds of the training process {spread(process_cpu)}")
    print(f"  CPU seconds with the worker's       {spread(all_cpu)}")
    print(f"  wall seconds, start to end          {spread(ratios(lambda run: run.wall_s))}")
    grown = spread([value / 1e6 for value in memory], digits=1)
    print(f"  more memory at the peak, MB         {grown} (the state is {state_bytes / 1e6:.1f} MB)")

    print()
    verdict(
        "steps per second within 3 %",
        statistics.median(speed) >= 1 - SPEED_MAY_FALL_BY,
        f"{100 * (statistics.median(speed) - 1):+.1f} %",
    )
    for name, values in (("training process", process_cpu), ("worker included", all_cpu)):
        verdict(
            f"CPU seconds within 3 %, {name}",
            statistics.median(values) <= 1 + CPU_MAY_GROW_BY,
            f"{100 * (statistics.median(values) - 1):+.1f} %",
        )
    verdict(
        f"memory within {allowed / 1e6:.1f} MB",
        statistics.median(memory) <= allowed,
        f"{statistics.median(memory) / 1e6:+.1f} MB",
    )
    verdict(
        f"at least {CHECKPOINTS_AT_LEAST} checkpoints",
        min(checkpoints) >= CHECKPOINTS_AT_LEAST,
        min(checkpoints),
    )


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median and, where there are two values at least, the quartiles."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) < 2:
        return middle
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle} [{low:.{digits}f} to {high:.{digits}f}]"


def verdict(target: str, is_met: bool, value: object) -> None:
    """One line: the target, whether it was met, and by what."""
    print(f"{'met   ' if is_met else 'MISSED'}  {target}: {value}")


if __name__ == "__main__":
    sys.exit(main())
