"""Calls back when a script imports a framework, so that nothing is imported that the script does not use."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


class _Loader(importlib.abc.Loader):
    """Another loader, with a call after it."""

    def __init__(self, loader: importlib.abc.Loader, then: Callable[[], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The module must be found with its own loader: packages read their files through it.
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then()

    def __getattr__(self, name: str) -> Any:
        """For those who only look at a spec: `importlib.util.find_spec("keras").loader.get_filename()`."""
        return getattr(self._loader, name)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self) -> None:
        self.waiting: dict[str, Callable[[], None]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self.waiting:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, lambda: self._executed(name))
                return spec
        return None

    def _executed(self, name: str) -> None:
        # Only now: a spec may be looked for without an import (TensorFlow does that with Keras, a dozen times
        # before it imports it), and an import may fail and be tried again.
        then = self.waiting.pop(name, None)
        if then is not None:
            then()


def after_import(name: str, then: Callable[[], None]) -> None:
    """Call `then` once, right after the module `name` was executed for the first time; now, if it was before.

    What `then` raises, the import raises.
    """
    if name in sys.modules:
        then()
        return
    for finder in sys.meta_path:
        if isinstance(finder, _Finder):
            finder.waiting[name] = then
            return
    found = _Finder()
    found.waiting[name] = then
    sys.meta_path.insert(0, found)
