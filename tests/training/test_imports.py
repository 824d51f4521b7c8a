"""A framework is met right after a script has imported it, whichever way it did."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import pkgutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from driverun.spool.events import EventKind
from driverun.training.imports import after_import
from tests.training.processes import Job


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the import path whose modules are forgotten afterwards."""
    before, finders = set(sys.modules), list(sys.meta_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.meta_path[:] = finders
    for name in set(sys.modules) - before:
        del sys.modules[name]


def package(folder: Path, name: str, **modules: str) -> None:
    (folder / name).mkdir()
    for module, source in {"__init__": "", **modules}.items():
        (folder / name / f"{module}.py").write_text(source)


def test_the_call_comes_once_and_when_the_module_is_whole(packages: Path) -> None:
    package(packages, "frame", __init__="from frame import inner\nready = True", inner="")
    seen: list[bool] = []
    after_import("frame", lambda: seen.append(sys.modules["frame"].ready))
    assert seen == []
    import frame  # type: ignore[import-not-found]

    assert seen == [True]
    importlib.reload(frame)
    assert seen == [True]


def test_a_part_that_is_imported_first_brings_the_whole(packages: Path) -> None:
    package(packages, "frame", inner="import frame; seen_by_inner = list(frame.calls)", __init__="calls = []")
    after_import("frame", lambda: sys.modules["frame"].calls.append("after"))
    inner = importlib.import_module("frame.inner")
    assert inner.seen_by_inner == ["after"]


def test_a_module_keeps_its_own_loader(packages: Path) -> None:
    package(packages, "frame", __init__="import pkgutil; text = pkgutil.get_data(__name__, 'a.txt')")
    (packages / "frame" / "a.txt").write_bytes(b"found")
    after_import("frame", lambda: None)
    frame = importlib.import_module("frame")
    assert frame.text == b"found"
    assert type(frame.__loader__) is importlib.machinery.SourceFileLoader
    assert frame.__spec__ is not None
    assert frame.__spec__.loader is frame.__loader__
    assert pkgutil.get_data("frame", "a.txt") == b"found"


def test_who_only_looks_for_a_module_does_not_use_the_call_up(packages: Path) -> None:
    package(packages, "frame")
    seen: list[int] = []
    after_import("frame", lambda: seen.append(1))
    spec = importlib.util.find_spec("frame")
    assert spec is not None
    assert spec.loader is not None
    assert spec.loader.get_filename("frame") == str(packages / "frame" / "__init__.py")  # type: ignore[attr-defined]
    assert importlib.util.find_spec("nosuchframe") is None
    assert seen == []
    importlib.import_module("frame")
    assert seen == [1]


def test_an_import_that_fails_may_be_tried_again(packages: Path) -> None:
    package(packages, "frame", __init__="import sys\nif not hasattr(sys, 'fr_ready'): raise OSError('busy')")
    seen: list[int] = []
    after_import("frame", lambda: seen.append(1))
    with pytest.raises(OSError, match="busy"):
        importlib.import_module("frame")
    assert "frame" not in sys.modules
    assert seen == []
    sys.fr_ready = True  # type: ignore[attr-defined]
    try:
        importlib.import_module("frame")
    finally:
        del sys.fr_ready  # type: ignore[attr-defined]
    assert seen == [1]


def test_what_the_call_raises_the_import_raises(packages: Path) -> None:
    package(packages, "frame")

    def refuse() -> None:
        raise ValueError("not this one")

    after_import("frame", refuse)
    with pytest.raises(ValueError, match="not this one"):
        importlib.import_module("frame")


def test_a_lazy_import_calls_when_it_is_first_used(packages: Path) -> None:
    package(packages, "frame", __init__="size = 3")
    seen: list[int] = []
    after_import("frame", lambda: seen.append(1))
    spec = importlib.util.find_spec("frame")
    assert spec is not None
    assert spec.loader is not None
    loader = importlib.util.LazyLoader(spec.loader)
    spec.loader = loader
    frame = importlib.util.module_from_spec(spec)
    sys.modules["frame"] = frame
    loader.exec_module(frame)
    assert seen == []
    assert frame.size == 3
    assert seen == [1]


def test_many_threads_import_once_and_go_on_when_the_call_is_over(packages: Path) -> None:
    package(packages, "frame", __init__="import threading\nwho = threading.get_ident()\nready = False")
    calls: list[int] = []
    found: list[bool] = []
    start = threading.Barrier(8)

    def make_ready() -> None:
        calls.append(1)
        sys.modules["frame"].ready = True  # type: ignore[attr-defined]

    def use() -> None:
        start.wait()
        found.append(importlib.import_module("frame").ready)

    after_import("frame", make_ready)
    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert found == [True] * 8


def test_what_is_there_already_is_called_for_at_once() -> None:
    seen: list[int] = []
    after_import("json", lambda: seen.append(1))
    assert seen == [1]


def test_several_modules_can_be_waited_for(packages: Path) -> None:
    package(packages, "frame", __init__="import other_frame")
    package(packages, "other_frame")
    seen: list[str] = []
    after_import("frame", lambda: seen.append("frame"))
    after_import("other_frame", lambda: seen.append("other"))
    finders = [finder for finder in sys.meta_path if type(finder).__module__ == "driverun.training.imports"]
    assert len(finders) == 1
    importlib.import_module("frame")
    assert seen == ["other", "frame"]


# With the real ones, in processes of their own.


@pytest.mark.parametrize(
    "first", ["import numpy", "import numpy.linalg", "from numpy._core import _multiarray_umath"]
)
def test_numpy_is_seeded_whichever_part_is_imported_first(tmp_path: Path, first: str) -> None:
    ended = Job(tmp_path / "job").run(
        f"""
        {first}
        import numpy as np
        drawn = np.random.rand()
        np.random.seed(7)
        print(drawn == np.random.rand(), np.__spec__.loader is np.__loader__, type(np.__loader__).__name__)
        """
    )
    ended.assert_finished()
    assert ended.text == "True True SourceFileLoader\n"


FIT = """
import numpy as np
model = Sequential([Dense(1)])
model.compile("sgd", "mse")
model.fit(np.zeros((8, 2)), np.zeros((8, 1)), batch_size=4, verbose=0)
"""


@pytest.mark.parametrize(
    "imports",
    [
        # TensorFlow looks for Keras a dozen times before it imports it, half-way through its own import.
        "import tensorflow as tf\nSequential, Dense = tf.keras.Sequential, tf.keras.layers.Dense",
        "from keras import layers, Sequential\nDense = layers.Dense\nimport importlib, keras\nimportlib.reload(keras)",
        "from keras.src.models import Sequential\nfrom keras.src.layers import Dense",
    ],
    ids=["tf.keras", "from keras, reloaded", "keras.src"],
)
def test_keras_is_met_whichever_way_it_is_imported(tmp_path: Path, imports: str) -> None:
    ended = Job(tmp_path / "job").run(f"{imports}\n{FIT}")
    ended.assert_finished()
    assert len(ended.of(EventKind.STARTED)) == 1
    (fit,) = ended.of(EventKind.FIT_ENDED)
    assert fit["step"] == 2
    assert len(ended.of(EventKind.MODEL_SAVED)) == 1
