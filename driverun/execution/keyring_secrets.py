"""Secrets in the keyring of this machine, where the package `keyring` is installed."""

from __future__ import annotations

from driverun.execution.secrets import Answer

SERVICE = "driverun"


class KeyringSecrets:
    """What `keyring set driverun NAME` has put there."""

    advice = "keyring set driverun {name}"

    def look_up(self, name: str) -> Answer:
        try:
            import keyring
            from keyring.errors import NoKeyringError
        except ImportError:
            return Answer()
        try:
            return Answer(value=keyring.get_password(SERVICE, name) or None)
        except NoKeyringError:
            return Answer()  # the package is installed, as it is on Colab, and this machine has no keyring
        except (
            Exception
        ) as exc:  # each backend of it has errors of its own, and some raise those of their libraries
            return Answer(why=f"cannot be asked of the keyring ({exc})")
