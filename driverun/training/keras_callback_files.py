"""Files that a script or its callbacks hold open while the folder around them is captured or brought back."""

from __future__ import annotations

import csv
import gc
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras


def open_paths(folder: Path) -> set[str]:
    """The files in `folder` that this process holds open, relative to it; empty where the system does not tell."""
    root = os.path.realpath(folder) + os.sep
    found = set()
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return set()
    for number in numbers:
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # it was that of the listing
        if target.startswith(root):
            found.add(target.removeprefix(root).replace(os.sep, "/"))
    return found


def open_writers(folder: Path) -> Iterator[Any]:
    """Python's file objects that write to files in `folder`, those above before those beneath."""
    if not open_paths(folder) and os.path.isdir("/proc/self/fd"):
        return
    root = os.path.realpath(folder) + os.sep
    layers: list[tuple[int, Any]] = []
    for item in gc.get_objects():
        kind = type(item)
        if not issubclass(kind, io.TextIOWrapper | io.BufferedWriter | io.BufferedRandom | io.FileIO):
            continue
        name = None if item.closed else getattr(item, "name", None)
        if not isinstance(name, str | os.PathLike) or not item.writable():
            continue
        if os.path.realpath(name).startswith(root):
            layers.append((0 if issubclass(kind, io.TextIOWrapper) else 2 if kind is io.FileIO else 1, item))
    for _, item in sorted(layers, key=lambda pair: pair[0]):
        yield item


def flush_writers(folder: Path) -> None:
    """Let what was written to open files be in them."""
    for file in open_writers(folder):
        file.flush()


def reopen_files(folder: Path, callbacks: Sequence[Any]) -> None:
    """Move every open file of `folder` to its end: its content was just brought back."""
    for file in open_writers(folder):
        if file.seekable():
            file.seek(0, os.SEEK_END)
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.CSVLogger):
            _continue_csv(callback)


def _continue_csv(logger: Any) -> None:
    """A CSVLogger that has written its header goes on with rows, as its own on_epoch_end would."""
    if logger.csv_file is None or logger.csv_file.closed or logger.writer is not None or not logger.keys:
        return

    class CustomDialect(csv.excel):
        delimiter = logger.sep

    logger.writer = csv.DictWriter(logger.csv_file, fieldnames=["epoch", *logger.keys], dialect=CustomDialect)
