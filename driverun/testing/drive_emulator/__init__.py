"""A Google Drive for tests and rehearsals: Drive v2 over HTTP on loopback, with faults on order.

with DriveEmulator(tmp_path) as emulator:
    emulator.faults.add(Fault(kind="drop", method="drive.files.insert", when="after"))
    ...  # talk to emulator.url with a token like `user:alice@example.com`
    assert emulator.requests.count("drive.files.insert") == 2
"""

from driverun.testing.drive_emulator.client import AdminClient
from driverun.testing.drive_emulator.emulator import DriveEmulator
from driverun.testing.drive_emulator.faults import Fault
from driverun.testing.drive_emulator.requestlog import RequestRecord
from driverun.testing.drive_emulator.settings import EmulatorSettings

__all__ = ["AdminClient", "DriveEmulator", "EmulatorSettings", "Fault", "RequestRecord"]
