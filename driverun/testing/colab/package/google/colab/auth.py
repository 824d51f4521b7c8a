"""Leave to act for the person at the page."""

from . import _faults, _message, _scene, errors

__all__ = ["authenticate_service_account", "authenticate_user"]


def authenticate_user(clear_output: bool = True, project_id: str | None = None) -> None:
    """Ask the person, once for each runtime; later calls find what was granted, from whatever process.

    Raises:
        MessageError: the person declined.
        AuthorizationError: the person did not, and there are no credentials all the same.
    """
    fault = _faults.begin("auth.authenticate_user", clear_output=clear_output, project_id=project_id)
    granted = _scene.folder() / "vm" / "granted"
    if granted.exists() and not fault.error:
        return
    _message.require_kernel()
    fault.throw(_message.MessageError, errors.AuthorizationError)
    granted.parent.mkdir(parents=True, exist_ok=True)
    granted.touch()


def authenticate_service_account(clear_output: bool = True) -> None:
    """Ask for the upload of a key; the stand-in has it.

    Raises:
        AuthorizationError: the key is none.
    """
    fault = _faults.begin("auth.authenticate_service_account", clear_output=clear_output)
    _message.require_kernel()
    fault.throw(errors.AuthorizationError)
