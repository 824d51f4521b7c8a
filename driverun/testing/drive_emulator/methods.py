"""Which code stands behind which method of the API."""

from __future__ import annotations

from driverun.testing.drive_emulator.belonging import Belonging, Properties
from driverun.testing.drive_emulator.calls import Handler
from driverun.testing.drive_emulator.comments import Comments
from driverun.testing.drive_emulator.contract import Contract
from driverun.testing.drive_emulator.drives import Drives
from driverun.testing.drive_emulator.files import Files
from driverun.testing.drive_emulator.history import About, Changes, Revisions
from driverun.testing.drive_emulator.listing import Listing
from driverun.testing.drive_emulator.settings import EmulatorSettings
from driverun.testing.drive_emulator.sharing import Permissions
from driverun.testing.drive_emulator.state import State


def method_table(
    state: State, files: Files, settings: EmulatorSettings, contract: Contract
) -> dict[str, Handler]:
    """Return the handler of every method that the emulator knows, by the method's id."""
    listing = Listing(state, files)
    changes = Changes(state, files)
    revisions = Revisions(state, files)
    permissions = Permissions(state, files)
    belonging = Belonging(state, files)
    properties = Properties(state, files)
    comments = Comments(state, files)
    handlers: dict[str, Handler] = {
        "drive.comments.list": comments.list,
        "drive.comments.get": comments.get,
        "drive.comments.insert": comments.insert,
        "drive.comments.update": comments.update,
        "drive.comments.patch": comments.update,
        "drive.comments.delete": comments.delete,
        "drive.replies.list": comments.list_replies,
        "drive.replies.get": comments.get_reply,
        "drive.replies.insert": comments.insert_reply,
        "drive.replies.update": comments.update_reply,
        "drive.replies.patch": comments.update_reply,
        "drive.replies.delete": comments.delete_reply,
    }
    for name, is_old in (("drives", False), ("teamdrives", True)):
        drives = Drives(state, files, old_name=is_old)
        for verb in ("list", "get", "insert", "update", "delete", "hide", "unhide"):
            if f"drive.{name}.{verb}" in contract.methods:
                handlers[f"drive.{name}.{verb}"] = getattr(drives, verb)
    return handlers | {
        "drive.files.get": files.get,
        "drive.files.list": listing.files,
        "drive.files.insert": files.insert,
        "drive.files.update": files.update,
        "drive.files.patch": files.update,
        "drive.files.trash": files.trash,
        "drive.files.untrash": files.untrash,
        "drive.files.touch": files.touch,
        "drive.files.delete": files.delete,
        "drive.files.emptyTrash": files.empty_trash,
        "drive.files.copy": files.copy,
        "drive.files.export": files.export,
        "drive.files.generateIds": files.generate_ids,
        "drive.children.list": listing.children,
        "drive.children.get": belonging.child,
        "drive.children.insert": belonging.insert_child,
        "drive.children.delete": belonging.delete_child,
        "drive.parents.list": belonging.parents,
        "drive.parents.get": belonging.parent,
        "drive.parents.insert": belonging.insert_parent,
        "drive.parents.delete": belonging.delete_parent,
        "drive.properties.list": properties.list,
        "drive.properties.get": properties.get,
        "drive.properties.insert": properties.insert,
        "drive.properties.update": properties.update,
        "drive.properties.patch": properties.update,
        "drive.properties.delete": properties.delete,
        "drive.permissions.list": permissions.list,
        "drive.permissions.get": permissions.get,
        "drive.permissions.insert": permissions.insert,
        "drive.permissions.update": permissions.update,
        "drive.permissions.patch": permissions.update,
        "drive.permissions.delete": permissions.delete,
        "drive.permissions.getIdForEmail": permissions.id_for_email,
        "drive.changes.getStartPageToken": changes.start_page_token,
        "drive.changes.list": changes.list,
        "drive.changes.get": changes.get,
        "drive.revisions.list": revisions.list,
        "drive.revisions.get": revisions.get,
        "drive.revisions.update": revisions.update,
        "drive.revisions.patch": revisions.update,
        "drive.revisions.delete": revisions.delete,
        "drive.about.get": About(state, files, settings).get,
    }
