"""Requests to the page in the browser, as far as it matters who may make them."""

import os
import sys
import threading
from typing import Any

from . import _scene, errors


class MessageError(errors.Error):
    """The page answered with an error."""


def require_kernel(*, main_thread: bool = True) -> None:
    """Return if a request could reach the page from here.

    In Colab the answer comes through a socket of the kernel, which no other process has, and which is not for two
    threads.

    Raises:
        AttributeError: this process is no kernel; the text is Colab's.
        RuntimeError: it is a fork of one, or this is not its main thread, where the real one may wait for ever.
    """
    if _scene.settings()["kernel_needed"]:
        kernel = _kernel()
        if kernel is None:
            raise AttributeError("'NoneType' object has no attribute 'kernel'")
        if getattr(kernel.session, "pid", os.getpid()) != os.getpid():
            raise RuntimeError(
                "Colab's page was asked by a fork of the kernel, whose sockets are not its own"
            )
    if main_thread and threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "Colab's page was asked from another thread than the main one; the answer may never come"
        )


def _kernel() -> Any | None:
    """Return the application of the kernel that runs here, if one does.

    Looked up, not imported: what is no kernel has no need to have ipykernel.
    """
    module = sys.modules.get("ipykernel.kernelapp")
    application = getattr(module, "IPKernelApp", None)
    return application.instance() if application is not None and application.initialized() else None
