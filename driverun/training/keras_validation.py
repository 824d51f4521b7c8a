"""The validation data of a fit: what they remember from one epoch to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from driverun.training.arrays import NamedArray
from driverun.training.keras_pipelines import Memory
from driverun.training.keras_pydataset import OpenEpoch, OrderedPyDataset, begin_epoch_of, end_epoch_of
from driverun.training.keras_reach import draws_globally, remembers
from driverun.training.keras_tfdata import Pipeline
from driverun.training.randomness import derived_seed


class Validation:
    """What a script gave as `validation_data`, counted by passes."""

    def __init__(self, given: Any, *, steps: int | None, seed: int) -> None:
        import tensorflow as tf

        self.passes = 0  #: begun so far
        self.argument = given  #: what Keras is to be given
        self.pipeline = Pipeline(given) if isinstance(given, tf.data.Dataset) else None
        self._given = given
        self._steps = steps
        self._seed = derived_seed(seed, "validation")
        self._open = OpenEpoch()
        self._is_py_dataset = isinstance(given, keras.utils.PyDataset)
        if self._is_py_dataset:
            self.argument = OrderedPyDataset(given, seed=self._seed, open_epoch=self._open)

    def opens(self) -> None:
        """A pass begins."""
        self._open.epoch = self.passes
        self.passes += 1

    def replay(self, passes: int) -> None:
        """Leave behind what so many passes left, as far as counting iterators does not."""
        for number in range(passes if self._is_py_dataset else 0):
            begin_epoch_of(self._given, seed=self._seed, epoch=number)
            end_epoch_of(self._given, seed=self._seed, epoch=number)
        self.passes = passes

    def variables(self) -> list[NamedArray]:
        return [] if self.pipeline is None else self.pipeline.values("validation_data")

    def restore_variables(self, arrays: Sequence[NamedArray]) -> None:
        if self.pipeline is not None:
            self.pipeline.restore(arrays)

    def gaps(self, training_data: Any) -> list[str]:
        found = []
        if self._is_py_dataset and self._given is training_data:
            found.append("the same PyDataset is training and validation data")
        if self._is_py_dataset and (
            remembers(self._given.__getitem__) or draws_globally(self._given.__getitem__)
        ):
            found.append("__getitem__ of the validation data draws random numbers or counts")
        if self.pipeline is not None:
            found += self.pipeline.gaps()
            if self.pipeline.memory is Memory.PASSES and self._steps is not None:
                found.append("validation reads a part of a dataset that only reading it whole brings back")
        return found

    def reasons(self, deterministic: bool) -> list[str]:
        return [] if self.pipeline is None else self.pipeline.reasons(deterministic)
