"""The methods of `parents`, `children` and `properties`: what belongs to a file, one by one.

A file lies in one folder, since Drive gave up more in 2020: another can be had by moving, and not by
inserting a second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from driverun.testing.drive_emulator.access import Role
from driverun.testing.drive_emulator.calls import Call, Reply
from driverun.testing.drive_emulator.files import Files
from driverun.testing.drive_emulator.listing import child_reference
from driverun.testing.drive_emulator.properties import merged_properties
from driverun.testing.drive_emulator.records import FileRecord, Property
from driverun.testing.drive_emulator.refusals import Refusal, not_found
from driverun.testing.drive_emulator.rendering import may_see, parent_reference, property_resource
from driverun.testing.drive_emulator.state import State


class Belonging:
    """Parents and children."""

    def __init__(self, state: State, files: Files) -> None:
        self._state = state
        self._files = files

    def parents(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._files.find(call, call.get("fileId"))
            sight = self._files.sight(call)
            shown = [one for one in record.parents if sight.role(self._state.current.files[one])]
            return {
                "kind": "drive#parentList",
                "etag": sight.etag("parents", record.id, record.version),
                "selfLink": sight.link("files", record.id, "parents"),
                "items": [parent_reference(record, one, sight) for one in shown],
            }

    def parent(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._files.find(call, call.get("fileId"))
            parent = self._parent_in(call, record, call.get("parentId"))
            return parent_reference(record, parent, self._files.sight(call))

    def insert_parent(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._files.find(call, call.get("fileId"), least=Role.WRITER)
            folder = self._put_into(call, record, call.body["id"])
            return parent_reference(record, folder, self._files.sight(call))

    def delete_parent(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._files.find(call, call.get("fileId"), least=Role.WRITER)
            self._parent_in(call, record, call.get("parentId"))
            raise _no_orphan()

    def child(self, call: Call) -> Reply:
        with self._state.lock:
            folder, record = self._pair(call)
            return child_reference(folder.id, record.id, self._files.sight(call))

    def insert_child(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._files.find(call, call.body["id"], least=Role.WRITER)
            folder = self._put_into(call, record, call.get("folderId"))
            return child_reference(folder, record.id, self._files.sight(call))

    def delete_child(self, call: Call) -> Reply:
        with self._state.lock:
            self._pair(call)
            raise _no_orphan()

    def _put_into(self, call: Call, record: FileRecord, folder: str) -> str:
        folder_id = self._files.resolve(folder, call.account)
        if folder_id in record.parents:
            return folder_id
        if record.parents:
            raise Refusal(403, "cannotAddParent", "Increasing the number of parents is not allowed")
        self._state.put_file(self._files.moved_to(call, record, folder_id))
        return folder_id

    def _parent_in(self, call: Call, record: FileRecord, name: str) -> str:
        parent = self._files.resolve(name, call.account)
        if parent not in record.parents:
            raise Refusal(404, "notFound", f"Parent not found: {name}", location="parent")
        return parent

    def _pair(self, call: Call) -> tuple[FileRecord, FileRecord]:
        folder = self._files.find(call, call.get("folderId"))
        record = self._files.find(call, call.get("childId"))
        if folder.id not in record.parents:
            raise not_found(call.get("childId"))
        return folder, record


def _no_orphan() -> Refusal:
    return Refusal(403, "cannotRemoveParent", "A file has to lie in a folder.")


class Properties:
    """The properties of a file, by their keys."""

    def __init__(self, state: State, files: Files) -> None:
        self._state = state
        self._files = files

    def list(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._files.find(call, call.get("fileId"))
            sight = self._files.sight(call)
            return {
                "kind": "drive#propertyList",
                "etag": sight.etag("properties", record.id, record.version),
                "selfLink": sight.link("files", record.id, "properties"),
                "items": [
                    property_resource(record, one, sight) for one in record.properties if may_see(one, sight)
                ],
            }

    def get(self, call: Call) -> Reply:
        with self._state.lock:
            record = self._files.find(call, call.get("fileId"))
            return property_resource(record, self._one(call, record), self._files.sight(call))

    def insert(self, call: Call) -> Reply:
        return self._put(call, call.body)

    def update(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._files.find(call, call.get("fileId"), least=Role.WRITER)
            before = self._one(call, record)
            visibility = call.body.get("visibility") or before.visibility
            value = call.body.get("value")
            return self._put(
                call,
                {
                    "key": before.key,
                    "visibility": visibility,
                    "value": before.value if value is None else value,
                },
            )

    def delete(self, call: Call) -> Reply:
        with self._state.writing():
            record = self._files.find(call, call.get("fileId"), least=Role.WRITER)
            gone = self._one(call, record)
            kept = tuple(one for one in record.properties if one is not gone)
            self._state.put_file(replace(record, properties=kept))
            return None

    def _put(self, call: Call, given: Mapping[str, Any]) -> Reply:
        with self._state.writing():
            record = self._files.find(call, call.get("fileId"), least=Role.WRITER)
            if given.get("value") is None:
                given = {**given, "value": ""}
            merged = merged_properties(record.properties, [given], call.identity.client)
            record = self._state.put_file(replace(record, properties=merged))
            visibility = (given.get("visibility") or "PRIVATE").upper()
            found = self._find(call, record, given["key"], visibility)
            return property_resource(record, found, self._files.sight(call))

    def _one(self, call: Call, record: FileRecord) -> Property:
        return self._find(call, record, call.get("propertyKey"), call.get("visibility").upper())

    def _find(self, call: Call, record: FileRecord, key: str, visibility: str) -> Property:
        sight = self._files.sight(call)
        for one in record.properties:
            if one.key == key and one.visibility == visibility and may_see(one, sight):
                return one
        raise Refusal(404, "notFound", f"Property not found: key = {key}", location="propertyKey")
