"""Arrays in memory as training data: Keras' own pipeline in an order that is a function of seed and epoch."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from driverun.training.keras_source import Part, Report, Source, in_two

PIECE_BYTES = 3 << 20  #: of batches that are gathered at once; larger ones gain nothing by it
MOST_AT_ONCE = 32


@dataclass(slots=True, kw_only=True)
class ArraySource(Source):
    """NumPy arrays, tensors, data frames; the stateful permutation gives way to a stateless one.

    The number of the epoch enters Keras' pipeline as a constant, by a graph that makes one pipeline after the other.
    Where it was a variable that the pipeline read, TensorFlow ran what followed in one thread under op determinism, and
    where one pass counted the epochs itself, autotuning went on to spend more on each (both measured on MNIST: a third
    more CPU to feed a small model, and a seventh more to train it).

    Small batches are gathered several at a time and then cut, and nothing is tuned while it runs: on MNIST an epoch
    then takes 0.18 s of CPU for its batches where Keras takes 0.37, and the tuner's thread no longer holds up the end
    of an epoch, which it did now and then for 1.5 s (TensorFlow 2.21: the iterator waits there until it wakes up).
    """

    kind: str = "array"
    _adapter: Any = field(default=None, init=False)
    _cut_to: int | None = field(
        default=None, init=False
    )  #: samples of a batch, where the adapter gives several at once
    _converted: Any = field(default=None, init=False)  #: the arrays as Keras feeds them
    _pipeline_of: Callable[[int], Any] | None = field(default=None, init=False)
    _epoch: Any = field(default=None, init=False)  #: the variable, where a strategy distributes one pipeline
    _dataset: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        import tensorflow as tf
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

        def adapter(batch_size: int | None) -> Any:
            return ArrayDataAdapter(
                self.x,
                self.y,
                sample_weight=self.sample_weight,
                class_weight=self.class_weight,
                batch_size=batch_size,
                shuffle=self.shuffle,
                steps=self.steps_per_epoch,
            )

        self._adapter = adapter(self.batch_size)
        self.batches = int(self._adapter.num_batches)
        distributed = tf.distribute.has_strategy()
        at_once = 1 if distributed or self.shuffle == "batch" else _batches_at_once(self._adapter)
        if at_once > 1:
            self._cut_to = int(self._adapter.batch_size)
            self._adapter = adapter(at_once * self._cut_to)
        with tf.device("CPU:0"):
            if distributed:
                self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="driverun_epoch")
                self._dataset = self._pipeline(self._epoch)
            else:
                self._pipeline_of = _maker_of_pipelines(self._pipeline)
                self._dataset = _dataset_by_epoch()(self._pipeline_of, first=self.first_epoch)

    def _pipeline(self, epoch: Any) -> Any:
        """Keras' own, in the order that belongs to `epoch`, an int64 tensor or variable."""
        import tensorflow as tf
        from keras.src.trainers.data_adapters import array_slicing

        def stateless(value: Any, seed: Any = None, name: Any = None) -> Any:
            del seed, name
            key = tf.stack([tf.constant(self.seed, tf.int64), tf.identity(epoch)])
            return tf.random.experimental.stateless_shuffle(value, seed=key)

        def convert_once(arrays: Any, **how: Any) -> Any:
            if self._converted is None:
                with tf.init_scope(), tf.device("CPU:0"):
                    self._converted = keras.tree.map_structure(_as_tensor, convert(arrays, **how))
            return self._converted

        convert = array_slicing.convert_to_sliceable
        with (
            _replaced(tf.random, "shuffle", stateless),
            _replaced(array_slicing, "convert_to_sliceable", convert_once),
        ):
            dataset = self._adapter.get_tf_dataset()
        if self._cut_to is not None:
            dataset = dataset.rebatch(self._cut_to)
        options = tf.data.Options()
        options.autotune.enabled = False
        dataset = dataset.with_options(options)
        return dataset.apply(tf.data.experimental.assert_cardinality(self.batches))

    def describe(self) -> dict[str, Any]:
        spec = [str(item) for item in keras.tree.flatten(self._dataset.element_spec)]
        return {"kind": self.kind, "batches": self.batches, "elements": spec, "shuffle": self.shuffle}

    def samples(self, report: Report) -> Iterator[dict[str, Any]]:
        del report  # its order has no memory: drawing changes nothing
        yield {"x": self._dataset.take(1), "shuffle": False}

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        del report

        def rest() -> dict[str, Any]:
            dataset = self._dataset if self._pipeline_of is None else self._pipeline_of(epoch)
            return {
                "x": dataset.skip(batch) if batch < (self.batches or 0) else dataset.take(0),
                "shuffle": False,
            }

        whole = {"x": self._dataset, "shuffle": False}
        return in_two(whole, rest, epoch, batch, epochs, is_empty=batch == self.batches)

    def open_epoch(self, epoch: int) -> None:
        if self._epoch is None:
            self._dataset.epoch = epoch
        else:
            self._epoch.assign(epoch)


def _batches_at_once(adapter: Any) -> int:
    """How many of its batches it may give in one piece."""
    import tensorflow as tf

    batch_bytes = 1
    for values in keras.tree.flatten(adapter._inputs):
        if not (isinstance(values, np.ndarray) or (tf.is_tensor(values) and isinstance(values, tf.Tensor))):
            return 1  # what is sparse or ragged cannot be cut
        shape = tuple(values.shape)
        batch_bytes += math.prod(shape[1:]) * adapter.batch_size * int(tf.as_dtype(values.dtype).size or 1)
    return max(1, min(MOST_AT_ONCE, PIECE_BYTES // batch_bytes))


def _maker_of_pipelines(pipeline: Callable[[Any], Any]) -> Callable[[int], Any]:
    """What gives the dataset of an epoch; the graph that makes it is traced once."""
    import tensorflow as tf

    spec: list[Any] = []

    @tf.function(input_signature=[tf.TensorSpec((), tf.int64)])  # type: ignore[untyped-decorator]
    def variant_of(epoch: Any) -> Any:
        dataset = pipeline(epoch)
        spec[:] = [dataset.element_spec]
        return tf.data.experimental.to_variant(dataset)

    def of_epoch(epoch: int) -> Any:
        with tf.device("CPU:0"):
            variant = variant_of(tf.constant(epoch, tf.int64))
        return tf.data.experimental.from_variant(variant, spec[0])

    return of_epoch


@functools.cache
def _dataset_by_epoch() -> type[Any]:
    import tensorflow as tf

    class DatasetByEpoch(tf.data.Dataset):  # type: ignore[misc]  # tensorflow ships no types
        """Gives the batches of the epoch that is open to whoever iterates it in Python, as Keras does.

        Keras asks for an iterator when an epoch has ended, and again when the next begins. Both get the same one:
        making it takes a tenth of a second under op determinism.
        """

        def __init__(self, of_epoch: Callable[[int], Any], *, first: int) -> None:
            self.epoch = first
            self._begun: int | None = None
            self._ahead: tuple[int, Any] | None = None
            self._of_epoch = of_epoch
            dataset = of_epoch(first)
            self._spec = dataset.element_spec
            super().__init__(dataset._variant_tensor)

        def __iter__(self) -> Any:
            wanted = self.epoch + (self._begun == self.epoch)
            if self._ahead is None or self._ahead[0] != wanted:
                with _op_determinism_off():
                    self._ahead = wanted, iter(self._of_epoch(wanted))
            if wanted == self.epoch:
                self._begun = wanted
            return self._ahead[1]

        @property
        def element_spec(self) -> Any:
            return self._spec

        def _inputs(self) -> list[Any]:
            return []

    return DatasetByEpoch


@contextlib.contextmanager
def _op_determinism_off() -> Iterator[None]:
    """For making the iterator of a pipeline that is deterministic as it is.

    TensorFlow would take a second copy of the arrays while it looks for random draws in parallel maps. Nothing else of
    the training process computes at that time.
    """
    from tensorflow.python.framework import config

    if not config.is_op_determinism_enabled():
        yield
        return
    config.disable_op_determinism()
    try:
        yield
    finally:
        config.enable_op_determinism()


def _as_tensor(value: Any) -> Any:
    """Of what a dataset would copy into a tensor each time that it is made."""
    import tensorflow as tf

    return tf.convert_to_tensor(value) if isinstance(value, np.ndarray) else value


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
