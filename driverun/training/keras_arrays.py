"""Arrays in memory as training data: Keras' own pipeline in an order that is a function of seed and epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras

from driverun.training.keras_source import Part, Report, Source, in_two


@dataclass(slots=True, kw_only=True)
class ArraySource(Source):
    """NumPy arrays, tensors, data frames; the stateful permutation gives way to a stateless one."""

    kind: str = "array"
    _dataset: Any = field(default=None, init=False)
    _epoch: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        import tensorflow as tf
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

        with tf.device("CPU:0"):
            self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="driverun_epoch")

        def stateless(value: Any, seed: Any = None, name: Any = None) -> Any:
            del seed, name
            key = tf.stack([tf.constant(self.seed, tf.int64), tf.identity(self._epoch)])
            return tf.random.experimental.stateless_shuffle(value, seed=key)

        adapter = ArrayDataAdapter(
            self.x,
            self.y,
            sample_weight=self.sample_weight,
            class_weight=self.class_weight,
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            steps=self.steps_per_epoch,
        )
        with _replaced(tf.random, "shuffle", stateless):
            dataset = adapter.get_tf_dataset()
        self.batches = int(adapter.num_batches)
        self._dataset = dataset.apply(tf.data.experimental.assert_cardinality(self.batches))

    def describe(self) -> dict[str, Any]:
        spec = [str(item) for item in keras.tree.flatten(self._dataset.element_spec)]
        return {"kind": self.kind, "batches": self.batches, "elements": spec, "shuffle": self.shuffle}

    def samples(self, report: Report) -> Iterator[dict[str, Any]]:
        del report  # its order has no memory: drawing changes nothing
        yield {"x": self._dataset.take(1), "shuffle": False}

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        del report
        return in_two(
            {"x": self._dataset, "shuffle": False},
            lambda: {
                "x": self._dataset.skip(batch) if batch < (self.batches or 0) else self._dataset.take(0),
                "shuffle": False,
            },
            epoch,
            batch,
            epochs,
            is_empty=batch == self.batches,
        )

    def open_epoch(self, epoch: int) -> None:
        self._epoch.assign(epoch)


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
