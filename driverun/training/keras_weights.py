"""A model that starts from the weights of another run, with everything else fresh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from driverun.errors import JobError
from driverun.spool.snapshot import read_header
from driverun.training.arrays import NamedArray, read_tensors
from driverun.training.session import TrainingSession

GROUPS = ("trainable", "non_trainable")
SEEDS = "seed_generator_state"  #: in the path of a SeedGenerator's variable: random state, and no weight


def start_from_weights(session: TrainingSession, model: Any) -> None:
    """Put the weights of the run that the request names into `model`, which is built.

    Variables are matched by their order, trainable ones and the others apart; the state of seed generators stays the
    model's own.

    Raises:
        JobError: they do not fit; nothing was changed.
    """
    source = session.request.weights_of
    folder = session.spool.initial_weights
    header = read_header(folder)
    if header is None:
        raise JobError(f"cannot start from the weights of {source}: they are not in the spool ({folder})")
    arrays = read_tensors(folder, header)
    pairs: list[tuple[Any, NamedArray]] = []
    for group in GROUPS:
        variables = [
            variable for variable in getattr(model, f"{group}_variables") if SEEDS not in _path_of(variable)
        ]
        saved = [named for named in arrays.get(group, []) if SEEDS not in named.path]
        difference = _difference(variables, saved)
        if difference is not None:
            kind = group.replace("_", "-")
            raise JobError(
                f"cannot start from the weights of {source}: {difference} of the {kind} variables. Build the model that"
                " was trained there, or leave init_from out and load what fits in the script."
            )
        pairs += zip(variables, saved, strict=True)
    for variable, named in pairs:
        variable.assign(named.array)
    session.say(f"starts from the weights of {source}, as of its step {header.step}")


def _difference(variables: Sequence[Any], saved: Sequence[NamedArray]) -> str | None:
    for index, (variable, named) in enumerate(zip(variables, saved, strict=False)):
        if tuple(variable.shape) != named.array.shape:
            return (
                f"{_path_of(variable)} has shape {tuple(variable.shape)}, there it is {named.array.shape},"
                f" which is number {index + 1}"
            )
    if len(variables) != len(saved):
        return f"the model has {len(variables)}, there are {len(saved)}"
    return None


def _path_of(variable: Any) -> str:
    return str(getattr(variable, "path", variable.name))
