"""Which kind of training data a script gave to `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from driverun.training.keras_arrays import ArraySource
from driverun.training.keras_iterators import count_iterations
from driverun.training.keras_pydataset import PyDatasetSource
from driverun.training.keras_source import Source
from driverun.training.keras_tfdata import TfDataSource, TfDataStream

__all__ = ["count_iterations", "source_of"]


def source_of(
    arguments: Mapping[str, Any], *, seed: int, epochs: int, first_epoch: int, steps_per_execution: int
) -> Source:
    """The source for what a script gave to `fit`."""
    import tensorflow as tf
    from keras.src.trainers.data_adapters.array_data_adapter import can_convert_arrays

    given: dict[str, Any] = {
        name: arguments.get(name)
        for name in ("x", "y", "sample_weight", "class_weight", "batch_size", "steps_per_epoch", "shuffle")
    }
    given.update(seed=seed, first_epoch=first_epoch, steps_per_execution=steps_per_execution)
    x, steps = given["x"], given["steps_per_epoch"]
    if isinstance(x, tf.data.Dataset):
        cardinality = int(x.cardinality())
        if steps is None or steps == cardinality:
            return TfDataSource(**given)
        if cardinality < 0 or cardinality >= steps * (epochs - first_epoch):
            return TfDataStream(**given)
        given["shuffle"] = False
        return Source(**given, batches=steps, kind="a tf.data.Dataset shorter than the steps asked of it")
    if isinstance(x, keras.utils.PyDataset):
        return PyDatasetSource(**given)
    if can_convert_arrays((x, given["y"], given["sample_weight"])):
        source = ArraySource(**given)
        if steps is None or steps == source.batches:
            return source
        return Source(**given, batches=steps, kind="an array read in other steps than an epoch has")
    given["shuffle"] = False  # Keras shuffles none of these, and warns if it is asked to
    return Source(**given, batches=steps, kind=f"a data source of type {type(x).__name__}")
