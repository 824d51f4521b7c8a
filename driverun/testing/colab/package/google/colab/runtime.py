"""The runtime itself."""

from . import _faults, _message, errors

__all__ = ["unassign"]


def unassign() -> None:
    """Give the runtime back.

    The stand-in writes it down and lets the process go on: when the power goes is for the test to say.

    Raises:
        RuntimeManagementError: it could not be given back.
        AttributeError, RuntimeError: it was, and then the page could not be told from here.
    """
    fault = _faults.begin("runtime.unassign")
    fault.throw(errors.RuntimeManagementError)
    _message.require_kernel()
