"""The errors that several parts of Colab's package share."""


class Error(Exception):
    """What most errors of Colab's package are."""


class AuthorizationError(Error):
    """There are no credentials after all."""


class RuntimeManagementError(Error):
    """The runtime could not be given back."""
