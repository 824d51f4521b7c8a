"""The text that a cell shows while it works."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from driverun.execution.hardware import GpuUse
from driverun.execution.viewing import AttemptView, WorkerView
from driverun.transfer.progress import written_size

LINES = 6  #: of what the job writes, and of what the worker says


@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """All that a cell has to show."""

    banner: str  #: one line: what driverun found here
    worker: WorkerView
    left_s: float  #: until this runtime hands over
    gpus: tuple[GpuUse, ...] = ()
    said: tuple[str, ...] = ()  #: by the worker, oldest first
    written: tuple[str, ...] = ()  #: by the job that runs, oldest first
    ending: tuple[str, ...] = ()  #: what there is to know when the cell ends


def text_of(view: CellView) -> str:
    """The view as lines."""
    worker = view.worker
    parts = [[view.banner]]
    if worker.attempt is not None:
        parts.append([*attempt_lines(worker.attempt), *(gpu_line(gpu) for gpu in view.gpus)])
    if worker.waiting:
        parts.append([worker.waiting])
    queue = [
        f"{run.run_id}  {run.state.value}{f'  {run.note}' if run.note else ''}"
        for run in worker.runs
        if worker.attempt is None or run.run_id != worker.attempt.run_id
    ]
    parts.append(queue)
    parts.append([f"| {line}" for line in view.written[-LINES:]])
    parts.append(list(view.said[-LINES:]))
    if view.ending:
        parts.append(list(view.ending))
    elif worker.stop is None:
        parts.append([f"hands over in {span(view.left_s)} at the latest; the stop button does it at once"])
    else:
        parts.append([stop_line(worker)])
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def attempt_lines(attempt: AttemptView) -> list[str]:
    """What an attempt is at, in two or three lines."""
    head = f"{attempt.run_id}  attempt {attempt.number}, {origin(attempt)}"
    now = [attempt.doing]
    if attempt.step:
        of = f" of {attempt.total_steps:,}" if attempt.total_steps else ""
        epoch = (
            f" (epoch {attempt.epoch + 1})"
            if attempt.epoch is not None and attempt.doing == "training"
            else ""
        )
        now.append(f"step {attempt.step:,}{of}{epoch}")
    if attempt.steps_per_s:
        now.append(f"{attempt.steps_per_s:.3g} steps/s")
        if attempt.total_steps and attempt.total_steps > attempt.step:
            now.append(f"{span((attempt.total_steps - attempt.step) / attempt.steps_per_s)} to go")
    now += [f"{name} {value:.4g}" for name, value in attempt.logs.items()]
    lines = [head, f"  {', '.join(now)}"]
    kept = kept_line(attempt)
    return [*lines, f"  {kept}"] if kept else lines


def origin(attempt: AttemptView) -> str:
    """Where it takes up."""
    if not attempt.resumed_step:
        return "from the start"
    of = f" of attempt {attempt.resumed_from_attempt}" if attempt.resumed_from_attempt else ""
    return f"resumed from step {attempt.resumed_step:,}{of}"


def kept_line(attempt: AttemptView) -> str:
    """What of it is safe by now."""
    said = []
    if attempt.committed_step is not None:
        age = f", {span(attempt.committed_age_s)} ago" if attempt.committed_age_s is not None else ""
        said.append(f"last checkpoint on the root: step {attempt.committed_step:,}{age}")
    if attempt.sending is not None:
        sending = attempt.sending
        left = f", {span(sending.left_s)} left" if sending.left_s is not None else ""
        said.append(
            f"sending {written_size(sending.done_bytes)} of {written_size(sending.total_bytes)}{left}"
        )
    return "; ".join(said)


def stop_line(worker: WorkerView) -> str:
    """What happens after somebody or something asked to stop."""
    assert worker.stop is not None
    sending = worker.attempt.sending if worker.attempt is not None else None
    left = f" ({span(sending.left_s)} left)" if sending is not None and sending.left_s is not None else ""
    return f"{worker.stop.value}: committing and handing over{left}; stop once more to abandon what is not sent yet"


def gpu_line(gpu: GpuUse) -> str:
    """How busy a GPU is; sizes in units of 2**30 bytes, as in the banner and in Colab itself."""
    used, total = gpu.used_bytes / 2**30, gpu.total_bytes / 2**30
    return f"  {gpu.name}: {gpu.busy_percent} % busy, {used:.1f} of {total:.1f} GB"


def queue_text(states: Iterable[str]) -> str:
    """Of how many runs there are in which state: 2 queued, 1 interrupted."""
    counts: dict[str, int] = {}
    for state in states:
        counts[state.lower()] = counts.get(state.lower(), 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing in the queue"


def span(seconds: float) -> str:
    """A time in the two units that matter: 45 s, 3 min 5 s, 2 h 10 min."""
    if not math.isfinite(seconds):
        return "a long time"
    whole = max(0, round(seconds))
    units: Sequence[tuple[str, int]] = (("h", 3600), ("min", 60), ("s", 1))
    found: list[str] = []
    for name, size in units:
        count, whole = divmod(whole, size)
        if count or (name == "s" and not found):
            found.append(f"{count} {name}")
        elif found:
            found.append("")
    return " ".join(each for each in found[:2] if each)
