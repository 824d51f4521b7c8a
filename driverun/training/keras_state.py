"""All arrays that a Keras model's training state consists of, out and in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from driverun.errors import JobError
from driverun.training.arrays import NamedArray
from driverun.training.keras_pipelines import stateful_random_operations, variables_of


def variable_groups(model: Any) -> Iterator[tuple[str, Sequence[Any]]]:
    """The variables of `model` in groups, in an order that the same script always makes.

    `non_trainable` holds BatchNormalization's statistics and every SeedGenerator's state, which neither
    `save_weights` nor a `.keras` file keeps (measured). Optimizers that a model holds beside its own, as a GAN does,
    follow under their attribute's name; then whatever else the training step uses: a discriminator that is no
    attribute, a tf.Variable in a loss, the seed of `keras.random`.
    """
    known: list[Any] = []
    for group, variables in _named_groups(model):
        known += variables
        yield group, variables
    yield "captured", _captured(model, known)


def _named_groups(model: Any) -> Iterator[tuple[str, Sequence[Any]]]:
    yield "trainable", model.trainable_variables
    yield "non_trainable", model.non_trainable_variables
    yield "optimizer", model.optimizer.variables if model.optimizer is not None else []
    yield "metrics", model.metrics_variables
    for name, value in sorted(vars(model).items()):
        if isinstance(value, keras.optimizers.Optimizer) and value is not model.optimizer:
            yield f"optimizer:{name}", value.variables


def _captured(model: Any, known: Sequence[Any]) -> list[Any]:
    handles = {id(_raw(variable)) for variable in known}
    found: list[Any] = []
    for function in step_functions(model):
        for variable in variables_of(function):
            if id(variable) not in handles:
                handles.add(id(variable))
                found.append(variable)
    return found


def _raw(variable: Any) -> Any:
    """The framework's variable beneath Keras'."""
    return variable.value if isinstance(variable, keras.Variable) else variable


def step_functions(model: Any) -> list[Any]:
    """The graphs that Keras has made of the training step so far; none while it runs eagerly."""
    function = getattr(model, "train_function", None)
    cells = getattr(function, "__closure__", None) or ()
    if function is None or not cells:
        return []
    names = function.__code__.co_freevars
    by_name = {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}
    traced = by_name.get("multi_step_on_iterator")
    listing = getattr(traced, "_list_all_concrete_functions", None)
    return list(listing()) if callable(listing) else []


def hidden_random_operations(model: Any) -> list[str]:
    """The kinds of operation in the training step that draw from state which nobody can read."""
    return sorted(set().union(*(stateful_random_operations(f.graph) for f in step_functions(model))))


def value_of(variable: Any) -> Any:
    """The variable's content, np.ndarray, on a CPU without a copy: the buffer is the framework's own."""
    value = _raw(variable)
    if hasattr(value, "read_value"):
        value = value.read_value()
    return value.__array__() if hasattr(value, "__array__") else np.asarray(value)


def _path_of(variable: Any) -> str:
    return str(getattr(variable, "path", variable.name))


def model_arrays(model: Any) -> list[NamedArray]:
    """Every variable of the model as a named array."""
    return [
        NamedArray(group=group, path=_path_of(variable), array=value_of(variable))
        for group, variables in variable_groups(model)
        for variable in variables
    ]


def misfit(model: Any, arrays: Mapping[str, Sequence[NamedArray]]) -> str | None:
    """In which variable the model and the arrays differ in number, shape or dtype; None if they fit."""
    groups = dict(variable_groups(model))
    for group in [
        *groups,
        *(name for name in arrays if name.startswith("optimizer:") and name not in groups),
    ]:
        variables = groups.get(group, [])
        saved = arrays.get(group, [])
        for index in range(max(len(variables), len(saved))):
            if index >= len(variables):
                return f"{group}[{index}] {saved[index].path}: the checkpoint holds it, the model does not"
            variable = variables[index]
            name = _path_of(variable)
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
            f"cannot take up {what}: {difference}. The script builds another model than the one that was"
            " trained; restore the code, or start over with `driverun retry RUN --fresh`."
        )
    for group, variables in variable_groups(model):
        for variable, saved in zip(variables, arrays.get(group, []), strict=True):
            variable.assign(saved.array)
