"""Who may do what with a file."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from driverun.testing.drive_emulator.records import FileRecord, Permission
from driverun.testing.drive_emulator.state import View


class Role(enum.IntEnum):
    """What an account may do, in rising order."""

    NONE = 0
    READER = 1
    COMMENTER = 2
    WRITER = 3
    FILE_ORGANIZER = 4  #: of a shared drive: may move and trash
    OWNER = 5
    ORGANIZER = 6  #: of a shared drive: manages members, and alone deletes for good


ROLES = {
    "reader": Role.READER,
    "commenter": Role.COMMENTER,
    "writer": Role.WRITER,
    "fileOrganizer": Role.FILE_ORGANIZER,
    "owner": Role.OWNER,
    "organizer": Role.ORGANIZER,
}


def is_service_account(account: str) -> bool:
    """Return whether an account is one without storage of its own."""
    return account.endswith(".iam.gserviceaccount.com")


def permissions_on(view: View, record: FileRecord) -> Iterator[tuple[Permission, FileRecord]]:
    """Yield every permission that holds for a file, its own first, with the item that it stands on.

    The owner of a folder does not own what others put in, but may write it.
    """
    for permission in record.permissions:
        yield permission, record
    for above in view.ancestors(record):
        for permission in above.permissions:
            yield permission, above


def role_of(view: View, record: FileRecord, account: str, *, now_ms: int) -> Role:
    """Return the highest role that an account has on a file."""
    if record.owner == account:
        return Role.OWNER
    best = Role.NONE
    for permission, place in permissions_on(view, record):
        if permission.expires_at is not None and permission.expires_at <= now_ms:
            continue
        if not _names(permission, account):
            continue
        role = ROLES[permission.role]
        if role is Role.OWNER and place is not record:
            role = Role.WRITER
        best = max(best, role)
    return best


def has_found(view: View, record: FileRecord, account: str) -> bool:
    """Return whether a file belongs to those that an account sees in its listings without being asked for.

    What is open to anyone with the link does not: one has to know the link.
    """
    if record.owner == account:
        return True
    return any(
        permission.type != "anyone" and _names(permission, account)
        for permission, _ in permissions_on(view, record)
    )


def _names(permission: Permission, account: str) -> bool:
    match permission.type:
        case "anyone":
            return True
        case "domain":
            return account.rpartition("@")[2].casefold() == permission.value.casefold()
        case _:
            return account.casefold() == permission.value.casefold()


def audience_of(view: View, record: FileRecord) -> tuple[str, ...]:
    """Return the addresses of all who can see a file; `*` where anyone can."""
    found: dict[str, None] = {}
    for permission, _ in permissions_on(view, record):
        found["*" if permission.type == "anyone" else permission.value] = None
    return tuple(found)
