"""The secrets that a person keeps in Colab."""

from . import _faults, _message, _scene, errors

__all__ = ["NotebookAccessError", "SecretNotFoundError", "TimeoutException", "get"]


class SecretNotFoundError(errors.Error):
    """There is no such secret."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Secret {key} does not exist.")


class NotebookAccessError(Exception):  # not errors.Error: so it is in Colab
    """There is one, and the person has not let this notebook have it."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Notebook does not have access to secret {key}")


class TimeoutException(errors.Error):
    """The page did not answer within ten seconds."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"Requesting secret {key} timed out. Secrets can only be fetched when running from the Colab UI."
        )


def get(key: str) -> str:
    """Return a secret; from any thread of the kernel.

    Raises:
        ValueError: the name is empty or holds white space.
        SecretNotFoundError: there is none of the name.
        NotebookAccessError: this notebook may not have it.
        TimeoutException: the page does not answer.
        AttributeError, RuntimeError: not called where the page can be asked.
    """
    fault = _faults.begin("userdata.get", key=key)
    if not key or any(one.isspace() for one in key):
        raise ValueError("Secret name must not be empty or contain whitespace.")
    _message.require_kernel(main_thread=False)
    for error in (TimeoutException, SecretNotFoundError, NotebookAccessError):
        if fault.error == error.__name__:
            raised = error(key)
            raised.args = (fault.message,) if fault.message else raised.args
            raise raised
    secrets = _scene.settings()["secrets"]
    if key not in secrets:
        raise SecretNotFoundError(key)
    if not secrets[key]["granted"]:
        raise NotebookAccessError(key)
    return str(secrets[key]["value"])
