"""A stand-in for Colab's own Python package, for jobs that were written in a Colab notebook.

A job runs in a process of its own, without the browser that Colab's calls talk to, and often not on Colab at all. Each
call says once what a job has in its place.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from driverun.errors import JobError

PACKAGE = "google.colab"
MOUNTS = ("/content/drive", "/content/gdrive", "/content/MyDrive", "/gdrive")

Say = Callable[[str], None]


def install_stand_in(working_folder: Path, *, say: Say) -> None:
    """Let `google.colab` be this stand-in from now on, whether Colab's own is installed or not.

    Args:
        working_folder: what is written there is a result.
        say: one line for the person whose job it is.
    """
    sys.meta_path.insert(0, _Finder(_modules(working_folder, _Once(say))))
    sys.meta_path.append(_Namespace())


def advice_on_path(exc: BaseException) -> str | None:
    """What to do about a file that a job looked for where Colab mounts Drive; None if it is about something else."""
    if not isinstance(exc, OSError) and "notfound" not in type(exc).__name__.lower():
        return None
    text = str(exc)
    if not any(f"{mount}/" in text or text.rstrip("'").endswith(mount) for mount in MOUNTS):
        return None
    return (
        "Drive is not mounted where a job runs. To read it: put it on the root, list it under `data:` in job.yaml"
        " (data: [{source: data/NAME}]) and open data/NAME. To write: any path in the working folder, which becomes a"
        " result"
    )


class _Once:
    """Says each thing once."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)


class _Nothing:
    """Whatever is done with it, nothing happens: what a browser would have shown."""

    def __call__(self, *_args: Any, **_kwargs: Any) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the stand-in and its parts."""

    def __init__(self, modules: Mapping[str, Mapping[str, Any]]) -> None:
        self._modules = modules

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != PACKAGE and name.removeprefix(f"{PACKAGE}.") not in self._modules:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=name == PACKAGE)

    def create_module(self, _spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ != PACKAGE:
            vars(module).update(self._modules[module.__name__.removeprefix(f"{PACKAGE}.")])
            return
        module.__doc__ = __doc__
        for name in self._modules:  # `import google.colab` is enough for `google.colab.drive`
            importlib.import_module(f"{PACKAGE}.{name}")


class _Namespace(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """An empty `google`, where no package of that name is installed."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != PACKAGE.partition(".")[0]:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, _spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


def _modules(folder: Path, say: Say) -> dict[str, dict[str, Any]]:
    """The parts of the stand-in, and what is in each."""
    return {
        "drive": _drive(say),
        "files": _files(folder, say),
        "auth": _auth(say),
        "userdata": _userdata(),
        "runtime": {
            "unassign": lambda: say("runtime.unassign() is left out: the worker decides when a machine goes")
        },
        "output": _output(),
        "patches": {"cv2_imshow": _show_image},
        **{name: {"__getattr__": _nothing} for name in ("data_table", "widgets", "snippets", "autoviz")},
    }


def _drive(say: Say) -> dict[str, Any]:
    def mount(mountpoint: str = "/content/drive", *_args: Any, **_kwargs: Any) -> None:
        there = os.path.isdir(os.path.join(mountpoint, "MyDrive"))
        say(
            f"drive.mount({str(mountpoint)!r}) is left out in a job: the data listed in job.yaml are under data/, and"
            " what is written into the working folder becomes a result"
            + (
                f". {mountpoint} is mounted on this machine, so its paths work here; on another they will not"
                if there
                else ""
            )
        )

    def flush_and_unmount(*_args: Any, **_kwargs: Any) -> None:
        """Nothing was mounted."""

    return {"mount": mount, "flush_and_unmount": flush_and_unmount}


def _files(folder: Path, say: Say) -> dict[str, Any]:
    def download(filename: str) -> None:
        source = Path(filename)
        if not source.exists():
            raise FileNotFoundError(f"Cannot find file: {filename}")
        if source.resolve().is_relative_to(folder.resolve()):
            say(f"files.download({filename!r}): it is a result as it lies; `driverun fetch` brings it")
            return
        target = folder / source.name
        shutil.copyfile(source, target)
        say(
            f"files.download({filename!r}): copied to {target.name}, which is a result; `driverun fetch` brings it"
        )

    def upload(*_args: Any, **_kwargs: Any) -> None:
        raise JobError(
            "files.upload() waits for a person, and nobody is there while a job runs: list the file under `data:` in"
            " job.yaml and open data/NAME"
        )

    return {
        "download": download,
        "upload": upload,
        "upload_file": upload,
        "view": lambda *_args, **_kwargs: None,
    }


def _auth(say: Say) -> dict[str, Any]:
    def authenticate(*_args: Any, **_kwargs: Any) -> None:
        say(
            "auth.authenticate_user() is left out: a job gets no credentials of yours. List what it reads from Google"
            " under `data:` in job.yaml"
        )

    return {"authenticate_user": authenticate, "authenticate_service_account": authenticate}


def _userdata() -> dict[str, Any]:
    class SecretNotFoundError(Exception):
        pass

    class NotebookAccessError(Exception):
        pass

    class TimeoutException(Exception):
        pass

    def get(key: str) -> str:
        value = os.environ.get(key)
        if value is None:
            raise SecretNotFoundError(
                f"userdata.get({key!r}): a job has the secrets that its job file names; write secrets: [{key}] there"
            )
        return value

    kinds = (SecretNotFoundError, NotebookAccessError, TimeoutException)
    return {"get": get, **{kind.__name__: kind for kind in kinds}}


def _output() -> dict[str, Any]:
    def clear(wait: bool = False, **_kwargs: Any) -> None:
        display = sys.modules.get("IPython.display")
        if display is not None:
            display.clear_output(wait=wait)

    return {"clear": clear, "eval_js": lambda *_args, **_kwargs: None, "__getattr__": _nothing}


def _show_image(image: Any) -> None:
    """Colab's `cv2_imshow`: image: uint8, (height, width) or (height, width, 3 or 4), blue first."""
    display, cv2 = sys.modules.get("IPython.display"), sys.modules.get("cv2")
    if display is not None and cv2 is not None:
        display.display(display.Image(data=cv2.imencode(".png", image)[1].tobytes()))


def _nothing(name: str) -> _Nothing:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Nothing()
