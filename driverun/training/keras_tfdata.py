"""tf.data pipelines as training data: positioned by skipping, after what they remember was brought back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from driverun.training.arrays import NamedArray
from driverun.training.keras_iterators import iterators_of, mark_read_in_part, was_read_in_part
from driverun.training.keras_pipelines import (
    Memory,
    captured_variables,
    memory_of,
    python_functions_of,
    random_operations_of,
)
from driverun.training.keras_reach import draws_globally
from driverun.training.keras_source import Part, Report, Source, in_two

#: What to try for a dimension that a dataset leaves open, when a model has to be built without drawing from it.
UNKNOWN_SIZES = (8, 64, 256)


class Pipeline:
    """One tf.data.Dataset within one fit: what it remembers, and how often each epoch read it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.memory = memory_of(dataset)
        self.captured = captured_variables(dataset)
        self.draws_globally = any(draws_globally(f) for f in python_functions_of(dataset))
        self.readings: list[int] = []  #: iterators made in each epoch that is over
        self._counted = iterators_of(dataset)

    def close_epoch(self) -> None:
        """An epoch, its validation included, is over."""
        if self.memory is Memory.PASSES:
            self.readings.append(iterators_of(self.dataset) - self._counted)

    def reread(self, times: int) -> None:
        """Leave behind what an epoch left that made so many iterators and read the first of them to its end."""
        if times:
            for _ in self.dataset:
                pass
        for _ in range(times - 1):
            iter(self.dataset)
        self.readings.append(times)

    def open_here(self) -> None:
        """An epoch opens now."""
        self._counted = iterators_of(self.dataset)

    def values(self, group: str) -> list[NamedArray]:
        """The variables that the pipeline's functions use, as they are now."""
        return [
            NamedArray(group=group, path=variable.name, array=np.array(variable.numpy()))
            for variable in self.captured
        ]

    def restore(self, arrays: Sequence[NamedArray]) -> None:
        for variable, saved in zip(self.captured, arrays, strict=True):
            variable.assign(saved.array)

    def gaps(self) -> list[str]:
        if self.memory is Memory.PASSES and any(count > 2 for count in self.readings):
            return ["a dataset that only reading from end to end brings back was also read by something else"]
        return []

    def reasons(self, deterministic: bool) -> list[str]:
        found = []
        if self.dataset.options().deterministic is False:
            found.append("the dataset asks for any order (options().deterministic = False)")
        drawing = random_operations_of(self.dataset)
        if (drawing or self.captured) and not deterministic:
            what = f"random operations ({', '.join(drawing)})" if drawing else "layers with random state"
            found.append(
                f"the dataset's map uses {what}, whose order varies from run to run:"
                " set `deterministic: true`"
            )
        return found


@dataclass(slots=True, kw_only=True)
class TfDataSource(Source):
    """A tf.data.Dataset that Keras iterates once an epoch."""

    kind: str = "tf.data.Dataset"
    _opened_with: list[NamedArray] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        cardinality = int(self.x.cardinality())
        self.batches = cardinality if cardinality >= 0 else None
        self.pipeline = Pipeline(self.x)
        self.draws_globally = self.pipeline.draws_globally

    def describe(self) -> dict[str, Any]:
        spec = [str(item) for item in keras.tree.flatten(self.x.element_spec)]
        return {"kind": self.kind, "batches": self.batches, "elements": spec}

    def samples(self, report: Report) -> Iterator[dict[str, Any]]:
        import tensorflow as tf

        common = {"class_weight": self.class_weight, "shuffle": False}
        has_memory = self.pipeline.memory is not Memory.NONE or bool(self.pipeline.captured)
        if not has_memory and not self.draws_globally:
            yield {"x": self.x.take(1), **common}
            return
        for unknown in UNKNOWN_SIZES:
            with contextlib.suppress(TypeError):
                zeros = keras.tree.map_structure(
                    lambda spec, n=unknown: _zeros_like(spec, n), self.x.element_spec
                )
                yield {"x": tf.data.Dataset.from_tensors(zeros), **common}
        if self.pipeline.memory is not Memory.NONE or self.pipeline.captured:
            report(
                "a batch of the dataset was drawn to build the model, which changes what later batches hold"
            )
        yield {"x": self.x.take(1), **common}

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        del report
        is_empty = batch == self.batches
        common = {"class_weight": self.class_weight, "shuffle": False}
        return in_two(
            {"x": self.x, **common},
            lambda: {"x": empty_like(self.x) if is_empty else self.x.skip(batch), **common},
            epoch,
            batch,
            epochs,
            is_empty=is_empty,
        )

    def open_epoch(self, epoch: int) -> None:
        del epoch
        self._opened_with = self.variables_now()

    def enter_empty_epoch(self) -> None:
        iterator = iter(self.x)  # that of the epoch itself, whose place an empty dataset took
        pipeline = self.pipeline
        if pipeline.memory is Memory.PASSES or pipeline.captured or pipeline.draws_globally:
            for _ in iterator:
                pass

    def leave_empty_epoch(self) -> None:
        iter(self.x)  # Keras makes one at the end of every epoch whose length it knows

    def variables_now(self) -> list[NamedArray]:
        values: list[NamedArray] = self.pipeline.values("data")
        return values

    def variables(self) -> list[NamedArray]:
        return self._opened_with

    def restore_variables(self, arrays: Sequence[NamedArray]) -> None:
        self.pipeline.restore(arrays)
        self._opened_with = list(arrays)

    def reasons(self, deterministic: bool) -> list[str]:
        found: list[str] = self.pipeline.reasons(deterministic)
        return found

    def gaps(self) -> list[str]:
        return list(self.pipeline.gaps())


def empty_like(dataset: Any) -> Any:
    """A dataset of the same elements that has none."""
    import tensorflow as tf

    return tf.data.Dataset.from_generator(lambda: iter(()), output_signature=dataset.element_spec)


def _zeros_like(spec: Any, unknown: int) -> Any:
    """A tensor that fits `spec`; dimensions that it leaves open become 2 (the batch) or `unknown`."""
    import tensorflow as tf

    if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
        raise TypeError(f"{type(spec).__name__} has no zeros")
    shape = [
        size if size is not None else (2 if axis == 0 else unknown)
        for axis, size in enumerate(spec.shape.as_list())
    ]
    return tf.zeros(shape, spec.dtype)


@dataclass(slots=True, kw_only=True)
class TfDataStream(TfDataSource):
    """A tf.data.Dataset that is one stream for all epochs: `repeat()` with `steps_per_epoch`."""

    kind: str = "endless tf.data.Dataset"

    def __post_init__(self) -> None:
        TfDataSource.__post_init__(self)
        self.batches = self.batches_for(self.steps_per_epoch or 0)
        self.is_stream = True

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        del report
        assert self.batches is not None
        common = {
            "steps_per_epoch": self.steps_per_epoch,
            "class_weight": self.class_weight,
            "shuffle": False,
        }
        done = (epoch - self.first_epoch) * self.batches + batch
        stream = {"x": self.x.skip(done) if done else self.x, **common}
        if batch == self.batches:
            none = {**common, "x": empty_like(self.x), "steps_per_epoch": None}
            return in_two(stream, lambda: none, epoch, batch, epochs, is_empty=True)
        return [
            Part(
                arguments=stream,
                initial_epoch=epoch,
                epochs=epochs,
                batch_offset=batch,
                stop_after=self.batches - batch if batch else None,
            )
        ]

    def enter_empty_epoch(self) -> None:
        """The one iterator of the stream goes on; the next part makes it."""

    def leave_empty_epoch(self) -> None:
        """See above."""

    def variables_now(self) -> list[NamedArray]:
        # One iterator serves all epochs: skipping from its very start also replays what its functions remember.
        return self._opened_with or TfDataSource.variables_now(self)

    def open_epoch(self, epoch: int) -> None:
        if epoch == self.first_epoch:
            self._opened_with = TfDataSource.variables_now(self)

    def reasons(self, deterministic: bool) -> list[str]:
        found = TfDataSource.reasons(self, deterministic)
        if was_read_in_part(self.x) and (self.pipeline.memory is not Memory.NONE or self.pipeline.captured):
            found.append(
                "an endless dataset is read by a second fit: how far the first had read ahead of it is not known"
            )
        if self.draws_globally:
            found.append(
                "an endless dataset draws from a global generator, and how far it reads ahead varies"
            )
        return found

    def leave(self) -> None:
        mark_read_in_part(self.x)
