"""Arrays in memory as training data: Keras' own pipeline in an order that is a function of seed and epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from driverun.training.keras_source import Part, Report, Source, in_two


@dataclass(slots=True, kw_only=True)
class ArraySource(Source):
    """NumPy arrays, tensors, data frames; the stateful permutation gives way to a stateless one.

    Where the epoch's length allows it, one pass of the pipeline serves all epochs and counts them itself. Otherwise
    each epoch is a pass of its own, and the count is a variable that the pipeline reads. Under op determinism
    TensorFlow runs what follows such a reading in one thread, which took a third more CPU to feed a small model.
    """

    kind: str = "array"
    epochs: int = 1  #: the script's last, plus one
    _adapter: Any = field(default=None, init=False)
    _converted: Any = field(default=None, init=False)  #: the arrays as Keras feeds them
    _epoch: Any = field(default=None, init=False)  #: where each epoch is a pass of its own
    _whole: Any = field(default=None, init=False)  #: the dataset of an uninterrupted fit

    def __post_init__(self) -> None:
        import tensorflow as tf
        from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

        self._adapter = ArrayDataAdapter(
            self.x,
            self.y,
            sample_weight=self.sample_weight,
            class_weight=self.class_weight,
            batch_size=self.batch_size,
            shuffle=self.shuffle,
            steps=self.steps_per_epoch,
        )
        self.batches = int(self._adapter.num_batches)
        if not self._epochs_end_with_calls():
            with tf.device("CPU:0"):
                self._epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="driverun_epoch")
        self._whole = self._dataset(self.first_epoch, self.epochs)

    def _epochs_end_with_calls(self) -> bool:
        """Whether no call of Keras' training function takes batches of two epochs, and each order is made whole."""
        limit = getattr(keras.config, "max_steps_per_epoch", lambda: None)()
        return (
            not (self.batches or 0) % self.steps_per_execution and self.shuffle != "batch" and limit is None
        )

    @property
    def is_one_pass(self) -> bool:
        return self._epoch is None

    def _dataset(self, first: int, end: int) -> Any:
        """The epochs from `first` to before `end`; where each is a pass of its own, the one that is open."""
        import tensorflow as tf
        from keras.src.trainers.data_adapters import array_slicing

        in_order = _EpochsInOrder(
            tf.data.Dataset.range(first, end) if self.is_one_pass else tf.data.Dataset.range(1),
            seed=self.seed,
            variable=self._epoch,
        )

        def convert_once(arrays: Any, **how: Any) -> Any:
            if self._converted is None:
                with tf.device("CPU:0"):
                    self._converted = keras.tree.map_structure(_as_tensor, convert(arrays, **how))
            return self._converted

        convert = array_slicing.convert_to_sliceable
        with (
            _replaced(tf.random, "shuffle", in_order.shuffle),
            _replaced(tf.data.Dataset, "range", in_order.in_the_place_of(tf.data.Dataset.range)),
            _replaced(array_slicing, "convert_to_sliceable", convert_once),
        ):
            dataset = self._adapter.get_tf_dataset()
        batches = (self.batches or 0) * (end - first if self.is_one_pass else 1)
        return dataset.apply(tf.data.experimental.assert_cardinality(batches))

    def describe(self) -> dict[str, Any]:
        spec = [str(item) for item in keras.tree.flatten(self._whole.element_spec)]
        return {"kind": self.kind, "batches": self.batches, "elements": spec, "shuffle": self.shuffle}

    def samples(self, report: Report) -> Iterator[dict[str, Any]]:
        del report  # its order has no memory: drawing changes nothing
        yield {"x": self._whole.take(1), "shuffle": False}

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        del report
        batches = self.batches or 0

        def of(first: int, end: int) -> Any:
            is_all = not self.is_one_pass or (first, end) == (self.first_epoch, self.epochs)
            return self._whole if is_all else self._dataset(first, end)

        def rest() -> dict[str, Any]:
            dataset = of(epoch, epoch + 1)
            return {"x": dataset.skip(batch) if batch < batches else dataset.take(0), "shuffle": False}

        whole = {"x": of(epoch + bool(batch), epochs), "shuffle": False}
        if self.is_one_pass:
            whole["steps_per_epoch"] = batches
        return in_two(whole, rest, epoch, batch, epochs, is_empty=batch == batches)

    def open_epoch(self, epoch: int) -> None:
        if not self.is_one_pass:
            self._epoch.assign(epoch)


class _EpochsInOrder:
    """Stands where Keras' pipeline has a `range(1)`: numbers of epochs, and a `shuffle` that knows them."""

    def __init__(self, epochs: Any, *, seed: int, variable: Any) -> None:
        self._epochs = epochs
        self._seed = seed
        self._variable = variable
        self._element: Any = None  #: the epoch, while a function of it is traced

    def in_the_place_of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def range_of(*arguments: Any, **named: Any) -> Any:
            return self if arguments == (1,) and not named else original(*arguments, **named)

        return range_of

    def map(self, function: Callable[[Any], Any]) -> Any:
        """As a dataset's own."""

        def of_epoch(epoch: Any) -> Any:
            self._element = epoch
            try:
                return function(epoch)
            finally:
                self._element = None

        return self._epochs.map(of_epoch)

    def shuffle(self, value: Any, seed: Any = None, name: Any = None) -> Any:
        """As `tf.random.shuffle`, the same for the same seed and epoch."""
        import tensorflow as tf

        del seed, name
        epoch = self._element if self._variable is None else tf.identity(self._variable)
        key = tf.stack([tf.constant(self._seed, tf.int64), epoch])
        return tf.random.experimental.stateless_shuffle(value, seed=key)


def _as_tensor(value: Any) -> Any:
    """Of what a dataset would copy into a tensor each time that it is made."""
    import tensorflow as tf

    return tf.convert_to_tensor(value) if isinstance(value, np.ndarray) else value


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(owner)[name]  # not getattr: of a class it would give a static method without its wrapper
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
