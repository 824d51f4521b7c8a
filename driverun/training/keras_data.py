"""Training data whose order in an epoch depends on nothing but the job's seed, the fit and the epoch.

Each source gives Keras the very objects that Keras would have made itself, so the input path stays as fast as Keras'
own, and can start an epoch at any batch.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from driverun.training.arrays import NamedArray
from driverun.training.randomness import derived_seed, host_random_seeded

#: More iterators than Keras makes of one dataset in one epoch (two, by its source), so that topping the count up to a
#: multiple of this makes the count, and with it a shuffle's order, a function of the epoch alone.
ITERATORS_AN_EPOCH = 4

#: What to try for a dimension that a dataset leaves open, when a model has to be built without drawing from it.
UNKNOWN_SIZES = (8, 64, 256)

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One call of Keras' own fit; a fit that goes on in mid-epoch takes two."""

    arguments: Mapping[str, Any]  #: x and what describes it
    initial_epoch: int
    epochs: int
    batch_offset: int = 0  #: batches of the first epoch that were consumed before
    stop_after: int | None = None  #: end the first epoch after so many batches; None: the data end it


@dataclass(slots=True, kw_only=True)
class Source:
    """Data that Keras reads in its own way; a resume begins the interrupted epoch anew."""

    x: Any
    y: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    batch_size: int | None = None
    steps_per_epoch: int | None = None  #: as the script gave it
    shuffle: Any = True
    batches: int | None = None  #: per epoch, None until it is known
    seed: int = 0  #: of this fit
    kind: str = "data of another kind"
    approximate_on_resume: str = "a {kind} cannot be positioned: the interrupted epoch began anew"

    def describe(self) -> dict[str, Any]:
        """What must be equal for a resume, as JSON."""
        return {"kind": self.kind, "batches": self.batches, "batch_size": self.batch_size}

    def native(self) -> dict[str, Any]:
        return {
            "x": self.x,
            "y": self.y,
            "sample_weight": self.sample_weight,
            "class_weight": self.class_weight,
            "batch_size": self.batch_size,
            "steps_per_epoch": self.steps_per_epoch,
            "shuffle": self.shuffle,
        }

    def samples(self) -> Iterator[dict[str, Any]]:
        """Arguments for a fit of one step that only builds; the first that works is used.

        Drawing one must not change any order, unless nothing else is left.
        """
        yield self.native()

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        """The calls that train from `batch` of `epoch` on."""
        if epoch or batch:
            report(self.approximate_on_resume.format(kind=self.kind))
        return [Part(arguments=self.native(), initial_epoch=epoch, epochs=epochs)]

    def begin_fit(self) -> None:
        """The fit starts; nothing was drawn yet."""

    def open_epoch(self, epoch: int) -> None:
        """Called before Keras draws the first batch of `epoch`."""

    def variables(self) -> list[NamedArray]:
        """What the data pipeline itself remembers, as it was when the epoch opened."""
        return []

    def variables_now(self) -> list[NamedArray]:
        """What `variables` will give for the epoch that opens next."""
        return self.variables()

    def restore_variables(self, arrays: Sequence[NamedArray]) -> None:
        """Put back what `variables` gave."""

    def close_fit(self, epochs_run: int) -> None:
        """The fit is over, or was over in an earlier attempt: leave what it leaves behind."""

    def reasons(self, deterministic: bool) -> list[str]:
        """Why even an uninterrupted run does not repeat itself."""
        del deterministic
        return []


# Arrays.


@dataclass(slots=True, kw_only=True)
class ArraySource(Source):
    """NumPy arrays, tensors, data frames: Keras' own pipeline, with a stateless permutation in the place of a stateful one."""

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

    def samples(self) -> Iterator[dict[str, Any]]:
        yield {"x": self._dataset.take(1), "shuffle": False}

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        del report
        return _two_parts(self._dataset, epoch, batch, epochs)

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


def _two_parts(dataset: Any, epoch: int, batch: int, epochs: int) -> list[Part]:
    def whole(first: int) -> Part:
        return Part(arguments={"x": dataset, "shuffle": False}, initial_epoch=first, epochs=epochs)

    if not batch:
        return [whole(epoch)]
    rest = Part(
        arguments={"x": dataset.skip(batch), "shuffle": False},
        initial_epoch=epoch,
        epochs=epoch + 1,
        batch_offset=batch,
    )
    return [rest, whole(epoch + 1)] if epoch + 1 < epochs else [rest]


# tf.data.

_iterations: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def lineage(dataset: Any) -> list[Any]:
    """`dataset` and every dataset it is made of, each once."""
    found: list[Any] = []
    wanted = [dataset]
    while wanted:
        node = wanted.pop()
        if any(node is known for known in found):
            continue
        found.append(node)
        wanted += node._inputs() if hasattr(node, "_inputs") else []
    return found


def count_iterations() -> None:
    """From now on count for every tf.data.Dataset how many iterators were made of it or of what is built on it.

    A shuffle draws a new order for each iterator, so its order in a later process is the same if and only if as many
    iterators were made before (measured: creating is enough, nothing has to be drawn).
    """
    import tensorflow as tf

    original = tf.data.Dataset.__iter__
    if getattr(original, "counts_iterations", False):
        return

    def counted(self: Any) -> Any:
        for node in lineage(self):
            _iterations[node] = _iterations.get(node, 0) + 1
        return original(self)

    counted.counts_iterations = True  # type: ignore[attr-defined]
    tf.data.Dataset.__iter__ = counted


def iterators_of(dataset: Any) -> int:
    return _iterations.get(dataset, 0)


def top_up(dataset: Any, count: int) -> None:
    """Make iterators of `dataset` until it has had `count`."""
    while iterators_of(dataset) < count:
        iter(dataset)


def is_reshuffled(dataset: Any) -> bool:
    """Whether the order of `dataset` depends on how many iterators were made before."""
    return any("Shuffle" in type(node).__name__ for node in lineage(dataset))


def _graphs(dataset: Any) -> Iterator[Any]:
    for node in lineage(dataset):
        for wrapper in node._functions() if hasattr(node, "_functions") else []:
            with contextlib.suppress(AttributeError):
                yield wrapper.function.graph


def captured_variables(dataset: Any) -> list[Any]:
    """The variables that functions in the pipeline use, such as the seed state of an augmentation layer in a `map`."""
    found: list[Any] = []
    for graph in _graphs(dataset):
        for variable in graph.variables:
            if not any(variable is known for known in found):
                found.append(variable)
    return found


def stateful_random_ops(dataset: Any) -> list[str]:
    """The kinds of operation in the pipeline that draw from hidden state."""
    kinds = {
        operation.type
        for graph in _graphs(dataset)
        for operation in graph.get_operations()
        if operation.op_def.is_stateful
    }
    return sorted(
        kind
        for kind in kinds
        if kind.startswith(("Random", "Multinomial", "ParameterizedTruncated", "TruncatedNormal"))
        or "SampleDistortedBoundingBox" in kind
    )


@dataclass(slots=True, kw_only=True)
class TfDataSource(Source):
    """A tf.data.Dataset that Keras iterates once an epoch."""

    kind: str = "tf.data.Dataset"
    _base: int = field(default=0, init=False)
    _first_epoch: int | None = field(default=None, init=False)
    _reshuffled: bool = field(default=False, init=False)
    _variables: list[Any] = field(default_factory=list, init=False)
    _opened_with: list[NamedArray] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        cardinality = int(self.x.cardinality())
        self.batches = cardinality if cardinality >= 0 else None
        self._reshuffled = is_reshuffled(self.x)
        self._variables = captured_variables(self.x)

    def describe(self) -> dict[str, Any]:
        spec = [str(item) for item in keras.tree.flatten(self.x.element_spec)]
        return {"kind": self.kind, "batches": self.batches, "elements": spec}

    def samples(self) -> Iterator[dict[str, Any]]:
        import tensorflow as tf

        common = {"class_weight": self.class_weight, "shuffle": False}
        for unknown in UNKNOWN_SIZES:
            with contextlib.suppress(TypeError):
                zeros = keras.tree.map_structure(
                    lambda spec, n=unknown: _zeros_like(spec, n), self.x.element_spec
                )
                yield {"x": tf.data.Dataset.from_tensors(zeros), **common}
        yield {"x": self.x.take(1), **common}

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        del report
        parts = _two_parts(self.x, epoch, batch, epochs)
        return [
            Part(
                arguments={**part.arguments, "class_weight": self.class_weight},
                initial_epoch=part.initial_epoch,
                epochs=part.epochs,
                batch_offset=part.batch_offset,
            )
            for part in parts
        ]

    def begin_fit(self) -> None:
        self._base = iterators_of(self.x)

    def count_epochs_from(self, epoch: int) -> None:
        self._first_epoch = epoch

    def open_epoch(self, epoch: int) -> None:
        if self._reshuffled:
            top_up(self.x, self._base + ITERATORS_AN_EPOCH * (epoch - (self._first_epoch or 0)))
        self._opened_with = self.variables_now()

    def variables_now(self) -> list[NamedArray]:
        return [
            NamedArray(group="data", path=variable.name, array=np.array(variable.numpy()))
            for variable in self._variables
        ]

    def variables(self) -> list[NamedArray]:
        return self._opened_with

    def restore_variables(self, arrays: Sequence[NamedArray]) -> None:
        for variable, saved in zip(self._variables, arrays, strict=True):
            variable.assign(saved.array)
        self._opened_with = list(arrays)

    def close_fit(self, epochs_run: int) -> None:
        if self._reshuffled:
            top_up(self.x, self._base + ITERATORS_AN_EPOCH * epochs_run)
        self._opened_with = self.variables_now() if self._variables else []

    def reasons(self, deterministic: bool) -> list[str]:
        found = []
        if self.x.options().deterministic is False:
            found.append("the dataset asks for any order (options().deterministic = False)")
        random = stateful_random_ops(self.x)
        if (random or self._variables) and not deterministic:
            what = f"random operations ({', '.join(random)})" if random else "layers with random state"
            found.append(
                f"the dataset's map uses {what}, whose order varies from run to run: set `deterministic: true`"
            )
        return found


def _zeros_like(spec: Any, unknown: int) -> Any:
    """A tensor that fits `spec`; dimensions that it leaves open become 2 (the batch) or `unknown`."""
    import tensorflow as tf

    if not isinstance(spec, tf.TensorSpec):
        raise TypeError(f"{type(spec).__name__} has no zeros")
    shape = [
        size if size is not None else (2 if axis == 0 else unknown)
        for axis, size in enumerate(spec.shape.as_list())
    ]
    return tf.zeros(shape, spec.dtype)


@dataclass(slots=True, kw_only=True)
class TfDataStream(TfDataSource):
    """A tf.data.Dataset that is one endless stream: `repeat()` with `steps_per_epoch`."""

    kind: str = "endless tf.data.Dataset"

    def __post_init__(self) -> None:
        TfDataSource.__post_init__(self)
        self.batches = self.steps_per_epoch

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        del report
        assert self.steps_per_epoch is not None
        done = (epoch - (self._first_epoch or 0)) * self.steps_per_epoch + batch
        return [
            Part(
                arguments={
                    "x": self.x.skip(done) if done else self.x,
                    "steps_per_epoch": self.steps_per_epoch,
                    "class_weight": self.class_weight,
                    "shuffle": False,
                },
                initial_epoch=epoch,
                epochs=epochs,
                batch_offset=batch,
                stop_after=self.steps_per_epoch - batch if batch else None,
            )
        ]

    def variables_now(self) -> list[NamedArray]:
        return self._opened_with or TfDataSource.variables_now(self)

    def open_epoch(self, epoch: int) -> None:
        # One iterator serves all epochs: skipping from its very start also replays what its functions remember.
        if epoch == (self._first_epoch or 0):
            TfDataSource.open_epoch(self, epoch)


# PyDataset.


@dataclass(slots=True)
class OpenEpoch:
    """Which epoch is being read, and in which order; shared by the parts of a fit."""

    epoch: int | None = None
    order: Any = None


class OrderedPyDataset(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """A user's PyDataset with an order, and a position, that depend on nothing but seed and epoch."""

    def __init__(
        self, inner: Any, *, seed: int, open_epoch: OpenEpoch, size: int | None, offset: int = 0
    ) -> None:
        super().__init__(
            workers=inner.workers,
            use_multiprocessing=inner.use_multiprocessing,
            max_queue_size=inner.max_queue_size,
        )
        self.inner = inner
        self.seed = seed
        self.open_epoch = open_epoch
        self.size = size
        self.offset = offset

    def __getitem__(self, index: int) -> Any:
        at = index + self.offset
        order = self.open_epoch.order
        return self.inner[int(order[at]) if order is not None else at]

    @property
    def num_batches(self) -> int | None:
        return None if self.size is None else self.size - self.offset

    def on_epoch_begin(self) -> None:
        if self.open_epoch.epoch is not None:
            begin_epoch_of(self.inner, seed=self.seed, epoch=self.open_epoch.epoch)

    def on_epoch_end(self) -> None:
        # Keras calls it at other times too, once before the first epoch; here it follows each epoch once.
        if self.open_epoch.epoch is not None:
            end_epoch_of(self.inner, seed=self.seed, epoch=self.open_epoch.epoch)
            self.open_epoch.epoch = None


def begin_epoch_of(dataset: Any, *, seed: int, epoch: int) -> None:
    with host_random_seeded(derived_seed(seed, "begin", epoch)):
        dataset.on_epoch_begin()


def end_epoch_of(dataset: Any, *, seed: int, epoch: int) -> None:
    """The user's on_epoch_end, with random generators that depend on the epoch alone, so that it can be replayed."""
    with host_random_seeded(derived_seed(seed, "end", epoch)):
        dataset.on_epoch_end()


@dataclass(slots=True, kw_only=True)
class PyDatasetSource(Source):
    """A keras.utils.PyDataset, read by index."""

    kind: str = "keras.utils.PyDataset"
    _open: OpenEpoch = field(default_factory=OpenEpoch, init=False)
    _first_epoch: int = field(default=0, init=False)
    _trained: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.batches = self.x.num_batches

    def count_epochs_from(self, epoch: int) -> None:
        self._first_epoch = epoch

    def _arguments(self, offset: int) -> dict[str, Any]:
        return {
            "x": OrderedPyDataset(
                self.x, seed=self.seed, open_epoch=self._open, size=self.batches, offset=offset
            ),
            "class_weight": self.class_weight,
            "steps_per_epoch": self.steps_per_epoch,
            "shuffle": False,
        }

    def samples(self) -> Iterator[dict[str, Any]]:
        one = OrderedPyDataset(self.x, seed=self.seed, open_epoch=OpenEpoch(), size=1)
        yield {"x": one, "class_weight": self.class_weight, "shuffle": False}

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        for past in range(self._first_epoch, epoch):
            begin_epoch_of(self.x, seed=self.seed, epoch=past)
            end_epoch_of(self.x, seed=self.seed, epoch=past)
        if self.batches is None or (self.steps_per_epoch or self.batches) != self.batches:
            return self._stream_parts(epoch, batch, epochs, report)
        if not batch:
            return [Part(arguments=self._arguments(0), initial_epoch=epoch, epochs=epochs)]
        rest = Part(
            arguments={**self._arguments(batch), "steps_per_epoch": None},
            initial_epoch=epoch,
            epochs=epoch + 1,
            batch_offset=batch,
        )
        if epoch + 1 == epochs:
            return [rest]
        return [rest, Part(arguments=self._arguments(0), initial_epoch=epoch + 1, epochs=epochs)]

    def _stream_parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        done = (epoch - self._first_epoch) * (self.steps_per_epoch or 0) + batch
        if self.batches is not None and done:
            report(
                "a PyDataset with other steps_per_epoch than its length cannot be positioned: it began anew"
            )
            done = 0
        return [
            Part(
                arguments=self._arguments(done),
                initial_epoch=epoch,
                epochs=epochs,
                batch_offset=batch,
                stop_after=(self.steps_per_epoch or 0) - batch if batch else None,
            )
        ]

    def open_epoch(self, epoch: int) -> None:
        self._trained = True
        self._open.epoch = epoch
        if self.shuffle and self.batches is not None:
            key = derived_seed(self.seed, "order", epoch)
            self._open.order = np.random.Generator(np.random.Philox(key)).permutation(self.batches)

    def close_fit(self, epochs_run: int) -> None:
        for past in range(epochs_run if self._trained else 0, epochs_run):
            begin_epoch_of(self.x, seed=self.seed, epoch=self._first_epoch + past)
            end_epoch_of(self.x, seed=self.seed, epoch=self._first_epoch + past)


def source_of(arguments: Mapping[str, Any], *, seed: int, epochs: int, initial_epoch: int) -> Source:
    """The source for what a script gave to `fit`."""
    import tensorflow as tf
    from keras.src.trainers.data_adapters.array_data_adapter import can_convert_arrays

    given: dict[str, Any] = {
        name: arguments.get(name)
        for name in ("x", "y", "sample_weight", "class_weight", "batch_size", "steps_per_epoch", "shuffle")
    }
    x, steps = given["x"], given["steps_per_epoch"]
    source: Source
    if isinstance(x, tf.data.Dataset):
        cardinality = int(x.cardinality())
        if steps is None or steps == cardinality:
            source = TfDataSource(**given, seed=seed)
        elif cardinality == int(tf.data.INFINITE_CARDINALITY) or cardinality >= steps * (
            epochs - initial_epoch
        ):
            source = TfDataStream(**given, seed=seed)
        else:
            source = Source(**given, seed=seed, kind="tf.data.Dataset shorter than the steps asked of it")
    elif isinstance(x, keras.utils.PyDataset):
        source = PyDatasetSource(**given, seed=seed)
    elif can_convert_arrays((x, given["y"], given["sample_weight"])):
        source = ArraySource(**given, seed=seed)
        if steps is not None and steps != source.batches:
            source = Source(**given, seed=seed, kind="array read with other steps than an epoch has")
    else:
        source = Source(**given, seed=seed, kind=f"data source of type {type(x).__name__}")
        source.batches = steps
    if isinstance(source, TfDataSource | PyDatasetSource):
        source.count_epochs_from(initial_epoch)
    return source
