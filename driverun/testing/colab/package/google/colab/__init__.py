"""A stand-in for Colab's own package, for tests; it needs the standard library alone.

`google` above it has no `__init__.py`: so `google.auth`, which lies elsewhere, stays importable beside it. Imports in
here are relative, so that the other side of the stand-in can import the same files under driverun's name.
"""

from . import auth, drive, files, output, runtime

__all__ = ["auth", "drive", "files", "output", "runtime"]  # not userdata: in Colab one imports it by its name
