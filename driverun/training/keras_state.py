"""All arrays that a Keras model's training state consists of, out and in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from driverun.errors import JobError
from driverun.training.arrays import NamedArray

MODEL_GROUPS = ("trainable", "non_trainable", "optimizer", "metrics")


def variable_groups(model: Any) -> Iterator[tuple[str, Sequence[Any]]]:
    """The variables of `model` in groups, in an order that the same script always makes.

    `non_trainable` holds BatchNormalization's statistics and every SeedGenerator's state, which neither
    `save_weights` nor a `.keras` file keeps (measured). Optimizers that a model holds beside its own, as a GAN does,
    follow under their attribute's name.
    """
    yield "trainable", model.trainable_variables
    yield "non_trainable", model.non_trainable_variables
    yield "optimizer", model.optimizer.variables if model.optimizer is not None else []
    yield "metrics", model.metrics_variables
    for name, value in sorted(vars(model).items()):
        if isinstance(value, keras.optimizers.Optimizer) and value is not model.optimizer:
            yield f"optimizer:{name}", value.variables


def value_of(variable: Any) -> Any:
    """The variable's content, np.ndarray, on a CPU without a copy: the buffer is the framework's own."""
    value = variable.value
    if hasattr(value, "read_value"):
        value = value.read_value()
    return value.__array__() if hasattr(value, "__array__") else np.asarray(value)


def model_arrays(model: Any) -> list[NamedArray]:
    """Every variable of the model as a named array."""
    return [
        NamedArray(group=group, path=getattr(variable, "path", variable.name), array=value_of(variable))
        for group, variables in variable_groups(model)
        for variable in variables
    ]


def misfit(model: Any, arrays: Mapping[str, Sequence[NamedArray]]) -> str | None:
    """In which variable the model and the arrays differ in number, shape or dtype; None if they fit."""
    groups = dict(variable_groups(model))
    for group in [*groups, *(name for name in arrays if name.startswith("optimizer:"))]:
        variables = groups.get(group, [])
        saved = arrays.get(group, [])
        for index in range(max(len(variables), len(saved))):
            if index >= len(variables):
                return f"{group}[{index}] {saved[index].path}: the checkpoint holds it, the model does not"
            variable = variables[index]
            name = getattr(variable, "path", variable.name)
            if index >= len(saved):
                return f"{group}[{index}] {name}: the model has it, the checkpoint does not"
            there, here = saved[index].array, variable
            if tuple(here.shape) != there.shape:
                return f"{group}[{index}] {name}: shape {tuple(here.shape)}, in the checkpoint {there.shape}"
            if keras.backend.standardize_dtype(here.dtype) != there.dtype.name:
                return f"{group}[{index}] {name}: {here.dtype}, in the checkpoint {there.dtype.name}"
    return None


def restore_model(model: Any, arrays: Mapping[str, Sequence[NamedArray]], *, what: str) -> None:
    """Put every array into its variable. Raises JobError, before anything is changed, if they do not fit."""
    difference = misfit(model, arrays)
    if difference is not None:
        raise JobError(
            f"cannot take up {what}: {difference}. The script builds another model than the one that was trained;"
            " restore the code, or start over with `driverun retry RUN --fresh`."
        )
    for group, variables in variable_groups(model):
        for variable, saved in zip(variables, arrays.get(group, []), strict=True):
            variable.assign(saved.array)
