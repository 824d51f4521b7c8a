"""What every kind of training data offers to a resumable fit, and the calls of Keras' fit that it is read by."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from driverun.training.arrays import NamedArray

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One call of Keras' own fit; a fit that goes on in mid-epoch takes two."""

    arguments: Mapping[str, Any]  #: x and what describes it
    initial_epoch: int
    epochs: int
    batch_offset: int = 0  #: batches of the first epoch that were consumed before
    stop_after: int | None = None  #: end the first epoch after so many batches; None: the data end it
    is_empty: bool = False  #: all batches of its only epoch were consumed before; what follows them was not

    @property
    def stops_at(self) -> tuple[int, int] | None:
        """The epoch and the batches of it after which Keras is to end the epoch, if data do not end it."""
        if self.stop_after is None:
            return None
        return self.initial_epoch, self.batch_offset + self.stop_after


@dataclass(slots=True, kw_only=True)
class Source:
    """Data that Keras reads in its own way, and that nobody can position."""

    x: Any
    y: Any = None
    sample_weight: Any = None
    class_weight: Any = None
    batch_size: int | None = None
    steps_per_epoch: int | None = None  #: as the script gave it
    shuffle: Any = True
    batches: int | None = None  #: per epoch, None until it is known
    seed: int = 0  #: of this fit
    first_epoch: int = 0
    steps_per_execution: int = 1
    kind: str = "data of another kind"
    draws_globally: bool = field(default=False, init=False)  #: reading it moves global generators on
    pipeline: Any = field(default=None, init=False)  #: of a tf.data.Dataset, what it remembers
    is_stream: bool = field(default=False, init=False)  #: one pass serves all epochs

    def batches_for(self, steps: int) -> int:
        """Batches that Keras reads for so many steps an epoch: what one call takes, it takes whole."""
        return -(-steps // self.steps_per_execution) * self.steps_per_execution

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

    def samples(self, report: Report) -> Iterator[dict[str, Any]]:
        """Arguments for a fit of one step that only builds; the first that works is used.

        `report` is told where drawing one changes what later batches hold.
        """
        del report  # going on without a position says enough
        if isinstance(self.x, types.GeneratorType):
            first = next(self.x)
            self.x = _one_by_one([first], self.x)
            yield {"x": _one_by_one([first]), "steps_per_epoch": 1, "shuffle": False}
            return
        yield {**self.native(), "steps_per_epoch": 1}

    def parts(self, epoch: int, batch: int, epochs: int, report: Report) -> list[Part]:
        """The calls that train from `batch` of `epoch` on."""
        if not batch and epoch == self.first_epoch:
            return [Part(arguments=self.native(), initial_epoch=epoch, epochs=epochs)]
        report(f"{self.kind} cannot be positioned: it was read from its beginning again")
        if not batch or self.steps_per_epoch is None:
            return [Part(arguments=self.native(), initial_epoch=epoch, epochs=epochs)]
        rest = Part(
            arguments={**self.native(), "steps_per_epoch": max(1, self.steps_per_epoch - batch)},
            initial_epoch=epoch,
            epochs=epoch + 1,
            batch_offset=batch,
            is_empty=batch >= self.steps_per_epoch,
        )
        if rest.is_empty:
            # No data can be taken for none of an unknown kind: the whole epoch's end is what a repeated epoch gives.
            return [Part(arguments=self.native(), initial_epoch=epoch, epochs=epochs)]
        whole = Part(arguments=self.native(), initial_epoch=epoch + 1, epochs=epochs)
        return [rest, whole] if epoch + 1 < epochs else [rest]

    def begin_fit(self) -> None:
        """The fit starts; nothing was drawn yet."""

    def open_epoch(self, epoch: int) -> None:
        """Called before Keras draws the first batch of `epoch`."""

    def enter_empty_epoch(self) -> None:
        """In the place of reading an epoch whose batches were all consumed before."""

    def leave_empty_epoch(self) -> None:
        """In the place of what Keras does with the data after the last batch of an epoch."""

    def variables(self) -> list[NamedArray]:
        """What the data pipeline itself remembers, as it was when the epoch opened."""
        return []

    def variables_now(self) -> list[NamedArray]:
        """What `variables` will give for the epoch that opens next."""
        return self.variables()

    def restore_variables(self, arrays: Sequence[NamedArray]) -> None:
        """Put back what `variables` gave."""

    def replay(self, epochs_run: int) -> None:
        """The epochs so far were trained in an earlier attempt: leave behind what they left in the data."""

    def leave(self) -> None:
        """The fit is over."""

    def reasons(self, deterministic: bool) -> list[str]:
        """Why even an uninterrupted run does not repeat itself."""
        del deterministic
        return []

    def gaps(self) -> list[str]:
        """Why a resume would be approximate, as far as it is known so far."""
        return []


def _one_by_one(*batches: Iterable[Any]) -> Iterator[Any]:
    """Like itertools.chain, but of the one kind of iterator that Keras takes."""
    for some in batches:
        yield from some


def in_two(
    whole: Mapping[str, Any],
    rest: Callable[[], Mapping[str, Any]],
    epoch: int,
    batch: int,
    epochs: int,
    *,
    is_empty: bool,
) -> list[Part]:
    """The rest of the epoch in progress, then the epochs after it, as two calls of Keras' fit."""
    if not batch:
        return [Part(arguments=whole, initial_epoch=epoch, epochs=epochs)]
    first = Part(
        arguments=rest(), initial_epoch=epoch, epochs=epoch + 1, batch_offset=batch, is_empty=is_empty
    )
    if epoch + 1 >= epochs:
        return [first]
    return [first, Part(arguments=whole, initial_epoch=epoch + 1, epochs=epochs)]
