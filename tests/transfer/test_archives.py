import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from driverun.errors import JobError, UnsafePath
from driverun.spec.sources import is_archive
from driverun.transfer.archives import Member, unpack


def unpacked(file: Path, name: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}

    def take(member: Member) -> None:
        found[member.path] = member.content.read()

    unpack(file, name=name or f"data/{file.name}", take=take)
    return found


def tar_of(file: Path, *entries: tuple[str, bytes, str]) -> Path:
    """A tar of (name, kind of entry, its content or what it links to), packed as its suffix says."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(content)
            else:
                entry.linkname = content
            archive.addfile(entry, io.BytesIO(content.encode()))
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".tar": bytes,
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
    }
    file.write_bytes(packers[file.suffix](plain.getvalue()))
    return file


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_tars_are_unpacked_with_links_as_the_files_they_lead_to(suffix: str, tmp_path: Path) -> None:
    file = tar_of(
        tmp_path / f"x.{suffix}",
        ("./", tarfile.DIRTYPE, ""),
        ("./a.txt", tarfile.REGTYPE, "a"),
        ("deep/b.txt", tarfile.REGTYPE, "b"),
        ("deep/c.txt", tarfile.SYMTYPE, "b.txt"),
        ("d.txt", tarfile.LNKTYPE, "deep/b.txt"),
    )
    assert unpacked(file) == {"a.txt": b"a", "deep/b.txt": b"b", "deep/c.txt": b"b", "d.txt": b"b"}


def test_zips_are_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "X.ZIP", "w") as archive:
        archive.writestr("deep/", "")
        archive.writestr("deep/a.txt", "a")
    assert unpacked(tmp_path / "X.ZIP") == {"deep/a.txt": b"a"}


@pytest.mark.parametrize(
    ("kind", "name", "to"),
    [
        (tarfile.REGTYPE, "../evil", ""),
        (tarfile.REGTYPE, "/evil", ""),
        (tarfile.REGTYPE, "a/../../evil", ""),
        (tarfile.SYMTYPE, "link", "/etc/passwd"),
        (tarfile.SYMTYPE, "link", "../../etc/passwd"),
        (tarfile.LNKTYPE, "link", "/etc/passwd"),
        (tarfile.SYMTYPE, "link", "folder"),
        (tarfile.FIFOTYPE, "pipe", ""),
        (tarfile.CHRTYPE, "device", ""),
    ],
)
def test_a_tar_with_anything_but_files_of_its_own_is_refused(
    kind: bytes, name: str, to: str, tmp_path: Path
) -> None:
    file = tar_of(tmp_path / "x.tar", ("folder", tarfile.DIRTYPE, ""), (name, kind, to))
    with pytest.raises(UnsafePath, match=r"cannot unpack data/x\.tar"):
        unpacked(file)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:\\evil"])
def test_a_zip_that_writes_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(UnsafePath, match="would land outside"):
        unpacked(tmp_path / "x.zip")


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafePath, match="a link or a device"):
        unpacked(tmp_path / "x.zip")


def _cut(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def _flipped(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes([content[half] ^ 0xFF]) + content[half + 1 :]


@pytest.mark.parametrize("damage", [_cut, _flipped, lambda _: b"", lambda _: b"no archive"])
@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_damaged_archive_is_told(suffix: str, damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tmp_path / f"x.{suffix}"
    text = "".join(str(number * number) for number in range(20_000))
    if suffix == "zip":
        with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", text)
    else:
        tar_of(file, ("a.txt", tarfile.REGTYPE, text))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(JobError, match="damaged, or of a kind"):
        unpacked(file)


def test_links_that_lead_to_each_other_are_told(tmp_path: Path) -> None:
    file = tar_of(tmp_path / "x.tar", ("a", tarfile.LNKTYPE, "b"), ("b", tarfile.SYMTYPE, "a"))
    with pytest.raises((JobError, UnsafePath), match="cannot unpack"):
        unpacked(file)


def test_what_the_taker_raises_comes_through(tmp_path: Path) -> None:
    def take(member: Member) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        unpack(tar_of(tmp_path / "x.tar", ("a", tarfile.REGTYPE, "")), name="x.tar", take=take)


def test_archives_are_known_by_their_name() -> None:
    assert all(map(is_archive, ["a.zip", "a.tar", "a.tar.gz", "a.TGZ", "a.tar.bz2", "a.tar.xz"]))
    assert not any(map(is_archive, ["a.npz", "a.gz", "zip", "a.csv"]))
