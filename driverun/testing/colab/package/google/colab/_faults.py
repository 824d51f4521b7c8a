"""What may go wrong with which call, in Colab's own words."""

from collections.abc import Mapping
from dataclasses import dataclass

from . import _scene

_DECLINED = "Error: credential propagation was unsuccessful"

#: Of each call, the errors that it may end with, and what they say unless the test says otherwise.
TEXTS: Mapping[str, Mapping[str, str]] = {
    "auth.authenticate_user": {
        "MessageError": _DECLINED,
        "AuthorizationError": "Failed to fetch user credentials",
    },
    "auth.authenticate_service_account": {"AuthorizationError": "Failed to fetch user credentials"},
    "drive.mount": {
        "NotImplementedError": "Mounting drive is unsupported in this environment. Use PyDrive2 instead.",
        "MessageError": _DECLINED,
        "ValueError": "mount failed",
    },
    "drive.flush_and_unmount": {"ValueError": "flush_and_unmount failed"},
    "userdata.get": {"TimeoutException": "", "SecretNotFoundError": "", "NotebookAccessError": ""},
    "runtime.unassign": {"RuntimeManagementError": "Unable to request VM unassignment."},
}


@dataclass(frozen=True)
class Fault:
    """An error that a call ends with."""

    error: str  #: the name of its class
    message: str  #: empty: what the class says by itself

    def throw(self, *classes: type[Exception]) -> None:
        """Raise the error if it is of one of `classes`; else it belongs to another place of the call."""
        for one in classes:
            if one.__name__ == self.error:
                raise one(self.message)


def begin(name: str, /, **arguments: object) -> Fault:
    """Write a call down, and return what it meets: an error that throws itself where it belongs, or not at all."""
    ordered = _scene.write_call(name, arguments)
    return Fault("", "") if ordered is None else Fault(ordered["error"], ordered["message"])
