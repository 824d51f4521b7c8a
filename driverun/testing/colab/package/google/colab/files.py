"""Files to and from the person's own disk, for which the stand-in has no browser."""

from . import _faults

__all__ = ["download", "upload"]


def upload() -> dict[str, bytes]:
    """Ask for files.

    Raises:
        NotImplementedError: always; nobody is there to choose one.
    """
    _faults.begin("files.upload")
    raise NotImplementedError(
        "cannot ask for files: the stand-in for google.colab has no browser. Put them where the cell reads them."
    )


def download(filename: str) -> None:
    """Hand out a file.

    Raises:
        FileNotFoundError: there is none.
        NotImplementedError: there is one, and nobody to take it.
    """
    _faults.begin("files.download", filename=filename)
    with open(filename, "rb"):
        pass
    raise NotImplementedError(
        f"cannot hand {filename} out: the stand-in for google.colab has no browser. Read it where it lies."
    )
