"""My Drive as a folder of the runtime."""

import os
import sys

from . import _cache, _faults, _message, _scene

__all__ = ["flush_and_unmount", "mount"]


def mount(
    mountpoint: str, force_remount: bool = False, timeout_ms: int = 120000, readonly: bool = False
) -> None:
    """Show My Drive as `mountpoint/MyDrive`, in the order of questions and checks that Colab has.

    Mounting by force begins with what the cloud has; what was pending is lost. In Colab it may or may not be.
    Read-only, nothing reaches the cloud; that writing fails is not shown here.

    Raises:
        NotImplementedError: this is no hosted runtime.
        ValueError: the mountpoint will not do, or mounting failed.
        MessageError: the person declined, even if it is mounted already: Colab asks first.
        AttributeError, RuntimeError: not called where the page can be asked.
    """
    fault = _faults.begin(
        "drive.mount",
        mountpoint=mountpoint,
        force_remount=force_remount,
        timeout_ms=timeout_ms,
        readonly=readonly,
    )
    if not _scene.settings()["hosted"]:
        raise NotImplementedError(_faults.TEXTS["drive.mount"]["NotImplementedError"])
    fault.throw(NotImplementedError)
    if " " in mountpoint:
        raise ValueError("Mountpoint must not contain a space.")
    _message.require_kernel()
    fault.throw(_message.MessageError)
    mountpoint = os.path.expanduser(mountpoint)
    if os.path.isdir(os.path.join(mountpoint, "My Drive")) and not force_remount:
        _say(
            f"Drive already mounted at {mountpoint}; to attempt to forcibly remount, "
            f'call drive.mount("{mountpoint}", force_remount=True).'
        )
        return
    cache = _cache.Cache(_scene.folder())
    cache.detach()
    _check(mountpoint)
    fault.throw(ValueError)
    cache.attach(mountpoint, readonly=readonly)
    _say(f"Mounted at {mountpoint}")


def flush_and_unmount(timeout_ms: int = 24 * 60 * 60 * 1000) -> None:
    """Bring everything to the cloud and take the folder away.

    Raises:
        ValueError: it could not be done; the folder stays.
    """
    fault = _faults.begin("drive.flush_and_unmount", timeout_ms=timeout_ms)
    cache = _cache.Cache(_scene.folder())
    if not cache.is_mounted:
        _say("Drive not mounted, so nothing to flush and unmount.")
        return
    fault.throw(ValueError)
    if cache.is_dead:
        raise ValueError(_faults.TEXTS["drive.flush_and_unmount"]["ValueError"])
    cache.push()
    cache.detach()


def _check(mountpoint: str) -> None:
    if os.path.islink(mountpoint):
        raise ValueError("Mountpoint must not be a symlink")
    if os.path.isdir(mountpoint) and os.listdir(mountpoint):
        raise ValueError("Mountpoint must not already contain files")
    if os.path.exists(mountpoint) and not os.path.isdir(mountpoint):
        raise ValueError("Mountpoint must either be a directory or not exist")
    if not os.path.exists(os.path.dirname(os.path.abspath(mountpoint))):
        raise ValueError("Mountpoint must be in a directory that exists")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
