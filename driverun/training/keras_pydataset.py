"""keras.utils.PyDataset as training data: read by index, in an order that is a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from driverun.training.keras_reach import draws_globally, remembers
from driverun.training.keras_source import Part, Report, Source, in_two
from driverun.training.randomness import derived_seed, host_random_seeded


@dataclass(slots=True)
class OpenEpoch:
    """Which epoch is being read, and in which order; shared by the parts of a fit."""

    epoch: int | None = None
    order: Any = None
    catch_up: int = 0  #: batches to read and drop before the first one


class OrderedPyDataset(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """A user's PyDataset with an order, and a position, that depend on nothing but seed and epoch."""

    def __init__(self, inner: Any, *, seed: int, open_epoch: OpenEpoch, offset: int = 0) -> None:
        super().__init__(
            workers=inner.workers,
            use_multiprocessing=inner.use_multiprocessing,
            max_queue_size=inner.max_queue_size,
        )
        self.inner = inner
        self.seed = seed
        self.open_epoch = open_epoch
        self.offset = offset

    def __getitem__(self, index: int) -> Any:
        if self.open_epoch.epoch is not None:
            while self.open_epoch.catch_up:
                self._item(self.offset - self.open_epoch.catch_up)
                self.open_epoch.catch_up -= 1
        return self._item(index + self.offset)

    def _item(self, at: int) -> Any:
        order = self.open_epoch.order
        return self.inner[int(order[at]) if order is not None else at]

    @property
    def num_batches(self) -> int | None:
        count = self.inner.num_batches
        return None if count is None else count - self.offset

    def on_epoch_begin(self) -> None:
        if self.open_epoch.epoch is not None:
            begin_epoch_of(self.inner, seed=self.seed, epoch=self.open_epoch.epoch)

    def on_epoch_end(self) -> None:
        # Keras calls it at other times too, once before the first epoch; here it follows each epoch once.
        if self.open_epoch.epoch is not None:
            end_epoch_of(self.inner, seed=self.seed, epoch=self.open_epoch.epoch)
            self.open_epoch.epoch = None


class FirstBatch(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """One batch of a PyDataset, to build a model with."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def __getitem__(self, index: int) -> Any:
        return self.inner[0]

    @property
    def num_batches(self) -> int:
        return 1


def begin_epoch_of(dataset: Any, *, seed: int, epoch: int) -> None:
    with host_random_seeded(derived_seed(seed, "begin", epoch)):
        dataset.on_epoch_begin()


def end_epoch_of(dataset: Any, *, seed: int, epoch: int) -> None:
    """The user's on_epoch_end, with random generators that depend on the epoch alone: it can be replayed."""
    with host_random_seeded(derived_seed(seed, "end", epoch)):
        dataset.on_epoch_end()


def order_of(shuffle: Any, count: int | None, *, seed: int, epoch: int) -> Any:
    """The order of an epoch's batches, int64, (count,); None: as they lie."""
    if not shuffle or count is None:
        return None
    return np.random.Generator(np.random.Philox(derived_seed(seed, "order", epoch))).permutation(count)


@dataclass(slots=True, kw_only=True)
class PyDatasetSource(Source):
    """A keras.utils.PyDataset, read by index."""

    kind: str = "keras.utils.PyDataset"
    _remembers: bool = field(default=False, init=False)
    _open: OpenEpoch = field(default_factory=OpenEpoch, init=False)

    def __post_init__(self) -> None:
        self.batches = self.x.num_batches
        if self.batches is None:
            self.batches = self.batches_for(self.steps_per_epoch or 0)
        self.draws_globally = draws_globally(self.x.__getitem__)
        self._remembers = remembers(self.x.__getitem__)

    @property
    def _is_whole(self) -> bool:
        """Whether an epoch is one pass over the dataset."""
        return self.x.num_batches is not None and self.steps_per_epoch in (None, self.x.num_batches)

    @property
    def _is_parallel(self) -> bool:
        return bool(self.x.workers > 1 or self.x.use_multiprocessing)

    def _arguments(self, offset: int, steps: int | None) -> dict[str, Any]:
        return {
            "x": OrderedPyDataset(self.x, seed=self.seed, open_epoch=self._open, offset=offset),
            "class_weight": self.class_weight,
            "steps_per_epoch": steps,
            "shuffle": False,
        }

    def samples(self, report: Report) -> Iterator[dict[str, Any]]:
        del report  # it is read by index: nothing is consumed
        yield {"x": FirstBatch(self.x), "class_weight": self.class_weight, "shuffle": False}

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        if self.x.num_batches is None:
            return self._endless_parts(epoch, batch, epochs)
        if not self._is_whole:
            return self._native_parts(epoch, batch, epochs, report)
        if self.draws_globally and not self._is_parallel:
            self._open.catch_up = batch
        is_empty = batch == self.batches
        return in_two(
            self._arguments(0, None),
            lambda: self._none() if is_empty else self._arguments(batch, None),
            epoch,
            batch,
            epochs,
            is_empty=is_empty,
        )

    def _native_parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        """As many steps an epoch as the dataset has not: Keras' own way, without a position."""
        if epoch == self.first_epoch and not batch:
            return [
                Part(arguments=self._arguments(0, self.steps_per_epoch), initial_epoch=epoch, epochs=epochs)
            ]
        report("a PyDataset with other steps_per_epoch than its length cannot be positioned: it began anew")
        return Source.parts(self, epoch, batch, epochs, lambda _: None)

    def _endless_parts(self, epoch: int, batch: int, epochs: int) -> list[Part]:
        steps, batches = self.steps_per_epoch or 0, self.batches_for(self.steps_per_epoch or 0)
        past = (epoch - self.first_epoch) * batches
        is_empty = batch == batches
        return in_two(
            self._arguments(past + batches if batch else past, steps),
            lambda: self._none() if is_empty else self._arguments(past + batch, steps - batch),
            epoch,
            batch,
            epochs,
            is_empty=is_empty,
        )

    def _none(self) -> dict[str, Any]:
        """No batch, of the kind that the dataset has."""
        from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

        from driverun.training.keras_tfdata import empty_like

        adapter = PyDatasetAdapter(FirstBatch(self.x), class_weight=self.class_weight)
        return {"x": empty_like(adapter.get_tf_dataset()), "shuffle": False}

    def open_epoch(self, epoch: int) -> None:
        self._open.epoch = epoch
        if self._is_whole:
            self.batches = self.x.num_batches
            self._open.order = order_of(self.shuffle, self.batches, seed=self.seed, epoch=epoch)

    def enter_empty_epoch(self) -> None:
        if self._open.epoch is not None:
            begin_epoch_of(self.x, seed=self.seed, epoch=self._open.epoch)
            for at in range(self._open.catch_up):
                self.x[int(self._open.order[at]) if self._open.order is not None else at]
            self._open.catch_up = 0

    def leave_empty_epoch(self) -> None:
        if self._open.epoch is not None:
            end_epoch_of(self.x, seed=self.seed, epoch=self._open.epoch)
            self._open.epoch = None

    def replay(self, epochs_run: int) -> None:
        for epoch in range(self.first_epoch, self.first_epoch + epochs_run):
            begin_epoch_of(self.x, seed=self.seed, epoch=epoch)
            end_epoch_of(self.x, seed=self.seed, epoch=epoch)

    def reasons(self, deterministic: bool) -> list[str]:
        del deterministic
        if (self._remembers or self.draws_globally) and self._is_parallel:
            return [
                "several workers call a __getitem__ that draws random numbers or counts: their order varies"
            ]
        return []

    def gaps(self) -> list[str]:
        if self._remembers:
            return ["__getitem__ of the PyDataset draws from a generator of its own, or counts"]
        if self.draws_globally and not self._is_whole:
            return ["__getitem__ of a PyDataset without whole epochs draws from a global generator"]
        return []
