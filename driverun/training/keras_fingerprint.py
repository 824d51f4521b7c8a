"""Whether a fit is the one that was interrupted, and what about the stack has changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from driverun.errors import JobError
from driverun.spool.snapshot import SnapshotHeader, SnapshotKind
from driverun.training.keras_source import Source
from driverun.training.session import TrainingSession


def fingerprint_of(
    model: Any, source: Source, callbacks: Sequence[Any], *, first_epoch: int, epochs: int
) -> dict[str, Any]:
    """What must be equal for a fit to be taken up, as JSON."""
    return {
        "model": type(model).__name__,
        "layers": [type(layer).__name__ for layer in model.layers],
        "weights": [list(variable.shape) for variable in model.weights] if model.built else None,
        "optimizer": type(model.optimizer).__name__,
        "epochs": epochs,
        "initial_epoch": first_epoch,
        "data": source.describe(),
        "callbacks": [type(callback).__name__ for callback in callbacks],
    }


def check_fit(session: TrainingSession, index: int, here: Mapping[str, Any], header: SnapshotHeader) -> None:
    """Record what makes taking `header` up approximate. Raises JobError where fit `index` is another one."""
    there = {name: header.fingerprint.get(name) for name in here}
    differing = [name for name in here if there[name] != here[name] and not _is_unbuilt(name, here, there)]
    continues = session.request.continues
    if continues is not None and "epochs" in differing:
        differing.remove("epochs")  # that is what it is continued for
        if header.kind is SnapshotKind.FIT_END:
            session.approximate(
                f"fit {index + 1} of {continues} ended after {there['epochs']} epochs and is not the one that is"
                f" continued, so it is not trained for {here['epochs']}"
            )
    if differing:
        text = "; ".join(f"{name}: {here[name]}, was {there[name]}" for name in differing)
        if not session.request.code_changed:
            raise JobError(_refusal(index, text, continues))
        session.approximate(f"code changed: fit {index + 1} differs ({text})")
    stack = header.fingerprint.get("stack", {})
    for name, value in session.stack.items():
        if name in stack and stack[name] != value:
            session.approximate(f"{name} changed from {stack[name]} to {value}")
    for gap in header.state.get("gaps", []):
        session.approximate(gap)
    if header.state.get("files_left_out"):
        session.approximate("the files that the script wrote were too large for the checkpoint")


def _refusal(index: int, text: str, continues: str | None) -> str:
    if continues is not None:
        return (
            f"cannot continue {continues}: fit {index + 1} is not the one that it trained ({text}). Only its epochs may"
            " differ; to start from its weights alone, write `what: weights` under `init_from`."
        )
    return (
        f"cannot take up fit {index + 1}: it is not the fit that was interrupted ({text})."
        " The script does not do the same when it runs again; make it, or start over with"
        " `driverun retry RUN --fresh`."
    )


def _is_unbuilt(name: str, here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Whether a model that Keras builds at the first batch was built in one of the two processes only."""
    return name == "weights" and None in (here[name], there[name])


def check_all_taken_up(session: TrainingSession) -> None:
    """The script is at its end. Raises JobError if it never came to a fit that an earlier attempt was in."""
    request = session.request
    reached = request.restore_fits + (1 if request.restore_checkpoint else 0)
    if session.fits_begun >= reached:
        return
    text = f"the script called fit {session.fits_begun} times, the checkpoint is of fit {reached}"
    if not request.code_changed:
        raise JobError(
            f"cannot take up the run: {text}. The script does not do the same when it runs again; make it, or"
            " start over with `driverun retry RUN --fresh`."
        )
    session.approximate(f"code changed: {text}")
