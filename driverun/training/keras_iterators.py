"""How many iterators every shuffled tf.data.Dataset of the process has had.

A shuffle draws a new order for each iterator, so its order in a later process is the same if and only if as many
iterators were made before (measured: for most pipelines making them is enough, see `Memory`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from driverun.training.keras_pipelines import lineage


class _Ledger:
    """The counts of one run of a script."""

    def __init__(self) -> None:
        self.counts: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.shuffles: list[
            weakref.ref[Any]
        ] = []  #: in the order in which the script made them, outside of fits
        self.fits_open = 0
        self.read_in_part: weakref.WeakSet[Any] = weakref.WeakSet()
        self.owed: list[Callable[[], None]] = []


_ledger = _Ledger()


def count_iterations() -> None:
    """From now on count, for every dataset, the iterators made of it or of what is built on it, from zero."""
    import tensorflow as tf

    global _ledger
    _ledger = _Ledger()
    kind = tf.data.Dataset
    original_iter, original_shuffle = kind.__iter__, kind.shuffle
    if getattr(original_iter, "counts_iterations", False):
        return

    def counted(self: Any) -> Any:
        settle()
        for node in lineage(self):
            _ledger.counts[node] = _ledger.counts.get(node, 0) + 1
        return original_iter(self)

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        made = original_shuffle(self, *args, **kwargs)
        if not _ledger.fits_open:
            _ledger.shuffles.append(weakref.ref(made))
        return made

    counted.counts_iterations = True  # type: ignore[attr-defined]
    noted.__doc__ = original_shuffle.__doc__
    kind.__iter__ = counted
    kind.shuffle = noted


@contextmanager
def fit_open() -> Iterator[None]:
    """While the block runs, datasets that are made do not count: a replayed fit would not make them."""
    _ledger.fits_open += 1
    try:
        yield
    finally:
        _ledger.fits_open -= 1


def iterators_of(dataset: Any) -> int:
    """How many iterators `dataset` has had, as far as anyone asked since counting began."""
    return _ledger.counts.get(dataset, 0)


def shuffle_counts() -> dict[str, int]:
    """The count of every shuffle of the script that is still alive and was ever read, by its place, as JSON."""
    found = {}
    for place, known in enumerate(_ledger.shuffles):
        node = known()
        if node is not None and iterators_of(node):
            found[str(place)] = iterators_of(node)
    return found


def top_up(counts: Mapping[str, int]) -> None:
    """Make iterators of every shuffle until it has had as many as in `counts`."""
    # The latest first: an iterator of one shuffle counts for those above it too.
    for place, count in sorted(((int(place), count) for place, count in counts.items()), reverse=True):
        node = _ledger.shuffles[place]() if place < len(_ledger.shuffles) else None
        while node is not None and iterators_of(node) < count:
            iter(node)


def owe(task: Callable[[], None]) -> None:
    """Do `task`, which reads data of a fit that was replayed, before the next iterator is made, if ever."""
    _ledger.owed.append(task)


def settle() -> None:
    """Do now what is owed, in order."""
    owed, _ledger.owed = _ledger.owed, []
    for task in owed:
        task()


def mark_read_in_part(dataset: Any) -> None:
    """Remember that a pass over `dataset` was broken off, with threads that had read ahead of it."""
    _ledger.read_in_part.update(lineage(dataset))


def was_read_in_part(dataset: Any) -> bool:
    return any(node in _ledger.read_in_part for node in lineage(dataset))
