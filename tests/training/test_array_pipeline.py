"""The batches that arrays are fed in, whatever it costs to make them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from driverun.training import keras_arrays  # noqa: E402
from driverun.training.keras_arrays import ArraySource  # noqa: E402

SAMPLES, BATCH = 43, 4
X = np.arange(SAMPLES * 3, dtype=np.float64).reshape(SAMPLES, 3)
Y = np.arange(SAMPLES)
WEIGHTS = np.linspace(0, 1, SAMPLES, dtype=np.float32)


@pytest.fixture
def determinism() -> Iterator[None]:
    tf.config.experimental.enable_op_determinism()
    yield
    from tensorflow.python.framework import config

    config.disable_op_determinism()


def batches(source: ArraySource, epoch: int, *, skip: int = 0) -> list[Any]:
    part = source.parts(epoch, skip, epoch + 1, lambda _: None)[0]
    source.open_epoch(epoch)
    return [keras.tree.map_structure(np.asarray, batch) for batch in part.arguments["x"]]


def assert_equal(ours: list[Any], others: list[Any]) -> None:
    assert len(ours) == len(others)
    for one, other in zip(ours, others, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("shuffle", [True, False, "batch"])
@pytest.mark.parametrize(
    "more", [{}, {"sample_weight": WEIGHTS}, {"class_weight": {label: label / 2 for label in range(SAMPLES)}}]
)
def test_batches_are_the_same_however_many_are_gathered_at_once(
    shuffle: Any, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def source() -> ArraySource:
        return ArraySource(x=X, y=Y, batch_size=BATCH, shuffle=shuffle, seed=5, **more)

    several = source()
    assert (several._cut_to is None) == (shuffle == "batch"), "a shuffle inside each batch knows its batch"
    monkeypatch.setattr(keras_arrays, "PIECE_BYTES", 1)
    single = source()
    assert single._cut_to is None
    assert several.describe() == single.describe()
    first, fourth = batches(single, 0), batches(single, 3)
    assert_equal(batches(several, 0), first)
    assert_equal(batches(several, 3), fourth)
    assert_equal(batches(several, 3, skip=7), fourth[7:])


def test_every_sample_comes_once_an_epoch_in_another_order() -> None:
    source = ArraySource(x=X, y=Y, batch_size=BATCH, seed=5)
    orders = [np.concatenate([labels for _, labels in batches(source, epoch)]).tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == Y.tolist()


def test_sparse_tensors_are_given_batch_by_batch() -> None:
    source = ArraySource(x=tf.sparse.from_dense(X), y=Y, batch_size=BATCH, shuffle=False, seed=5)
    found = list(source.parts(0, 0, 1, lambda _: None)[0].arguments["x"])
    np.testing.assert_array_equal(np.concatenate([tf.sparse.to_dense(x).numpy() for x, _ in found]), X)


@pytest.mark.usefixtures("determinism")
def test_op_determinism_is_on_again_when_batches_come() -> None:
    from tensorflow.python.framework import config

    source = ArraySource(x=X, y=Y, batch_size=BATCH, seed=5)
    source.open_epoch(0)
    whole = source.parts(0, 0, 1, lambda _: None)[0].arguments["x"]
    assert [config.is_op_determinism_enabled() for _ in whole] == [True] * 11
