from __future__ import annotations

import pytest

from driverun.storage.drivefs import drivefs_root

BY_ID = "gdrive://FOLDER_ID, where"
COLAB = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\ndrive /content/drive fuse.drive rw,nosuid 0 0\n"
MAC = "/Users/ada/Library/CloudStorage/GoogleDrive-ada@example.org"


@pytest.mark.parametrize(
    ("path", "mounts", "form"),
    [
        ("/content/drive/MyDrive/experiments", COLAB, "gdrive:experiments"),
        ("/content/drive/My Drive/a/b c", COLAB, "gdrive:a/b c"),
        ("/content/drive/MyDrive", COLAB, BY_ID),
        ("/content/drive/Shareddrives/Lab/a", COLAB, BY_ID),
        ("/content/drive/.shortcut-targets-by-id/1AbC_d-9", COLAB, "gdrive://1AbC_d-9"),
        ("/content/drive/.shortcut-targets-by-id/1AbC_d-9/a", COLAB, BY_ID),
        ("/content/drive/MyDrive/x", COLAB.replace("fuse.drive", "fuse"), "gdrive:x"),
        ("/mnt/gd/MyDrive/x", "drive /mnt/gd fuse.drivefs rw 0 0", "gdrive:x"),
        ("/mnt/my gd/MyDrive/x", r"drive /mnt/my\040gd fuse.drive rw 0 0", "gdrive:x"),
        ("/home/ada/gd/x/y", "gdfuse /home/ada/gd fuse.google-drive-ocamlfuse rw 0 0", "gdrive:x/y"),
        (f"{MAC}/My Drive/experiments", "", "gdrive:experiments"),
        (f"{MAC}/Meine Ablage/experiments", "", BY_ID),
        ("/Volumes/GoogleDrive/My Drive/a/b", "", "gdrive:a/b"),
        ("/Volumes/GoogleDrive-1234/My Drive/a", "", "gdrive:a"),
        ("/run/user/1000/gvfs/google-drive:host=example.org,user=ada/0A/1B", "", BY_ID),
    ],
)
def test_a_folder_of_a_drive_mount_is_told_in_its_gdrive_form(path: str, mounts: str, form: str) -> None:
    found = drivefs_root(path, mounts)
    assert found is not None
    assert found == form or (form is BY_ID and found.startswith(BY_ID))


@pytest.mark.parametrize(
    ("path", "mounts"),
    [
        ("/content/experiments", COLAB),
        ("/content/drive/MyDrive/x", ""),  # a plain folder that has the name
        ("/content/drivel/MyDrive/x", COLAB),
        ("/content/drive/MyDrive/x", COLAB + "tmpfs /content/drive tmpfs rw 0 0\n"),
        ("/content/drive/scratch/x", COLAB + "tmpfs /content/drive/scratch tmpfs rw 0 0\n"),
        ("/home/ada/x", "sshfs#host: /home/ada fuse.sshfs rw 0 0"),
        ("/home/ada/x", "damaged line\n\n"),
        ("/Users/ada/Library/CloudStorage/Dropbox/x", ""),
        ("/Volumes/GoogleDriveBackup/x", ""),
    ],
)
def test_other_folders_are_let_be(path: str, mounts: str) -> None:
    assert drivefs_root(path, mounts) is None
