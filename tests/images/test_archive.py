"""Zips: unpacked once, and nothing leaves the folder."""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from image_files import unsplit

from tuner.artifacts import files
from tuner.errors import DataError
from tuner.images import archive
from tuner.images.archive import unpack
from tuner.images.scan import scan


def zipped(folder: Path, path: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as target:
        for file in sorted(folder.rglob("*.jpg")):
            target.write(file, f"{inside}{file.relative_to(folder).as_posix()}")
    return path


def refused(path: Path, cache: Path) -> str:
    with pytest.raises(DataError) as caught:
        unpack(path, cache)
    assert not list((cache / "archives").glob("*"))
    return str(caught.value)


@pytest.mark.parametrize("inside", ["", "photos/", "./"])
def test_a_zip_is_a_folder(tmp_path: Path, inside: str) -> None:
    path = zipped(unsplit(tmp_path / "data", 2), tmp_path / "a.zip", inside)
    root = unpack(path, tmp_path / "cache")
    assert [file.path for file in scan(root).files] == ["cat/00.jpg", "cat/01.jpg", "dog/00.jpg", "dog/01.jpg"]


def test_unpacked_once(tmp_path: Path) -> None:
    path = zipped(unsplit(tmp_path / "data", 2), tmp_path / "a.zip")
    first = unpack(path, tmp_path / "cache")
    before = os.stat(first / "cat" / "00.jpg")
    again = unpack(path, tmp_path / "cache")
    assert (again, os.stat(again / "cat" / "00.jpg").st_ino) == (first, before.st_ino)


def test_a_zip_that_is_replaced_while_it_is_read_is_filed_under_its_own_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renamed into its place between hashing and unpacking: what was hashed is unpacked. Written into: refused."""
    first = zipped(unsplit(tmp_path / "data", 2), tmp_path / "a.zip")
    other = zipped(unsplit(tmp_path / "more", 3), tmp_path / "b.zip")
    data, wanted = first.read_bytes(), other.read_bytes()
    real = archive._unpack

    def replaced(path: Path, *rest: Any) -> str:
        os.replace(other, first)
        return real(path, *rest)

    monkeypatch.setattr(archive, "_unpack", replaced)
    root = unpack(first, tmp_path / "cache")
    assert len(scan(root).files) == 4 and hashlib.sha256(data).hexdigest() in root.parts

    def written(path: Path, *rest: Any) -> str:
        path.write_bytes(data)
        return real(path, *rest)

    monkeypatch.setattr(archive, "_unpack", written)
    with pytest.raises(DataError, match=r"a\.zip: changed while it was unpacked"):
        unpack(first, tmp_path / "cache")
    assert hashlib.sha256(wanted).hexdigest() not in os.listdir(tmp_path / "cache" / "archives")


def test_what_was_unpacked_is_on_disk_when_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file and each folder is synced before the entry has its name, and its files are held against checksums."""
    synced, real, system = set[int](), os.fsync, list[None]()

    def fsync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "sync", lambda: system.append(None))
    path = zipped(unsplit(tmp_path / "data", 2), tmp_path / "a.zip", "photos/")
    entry = next(p for p in unpack(path, tmp_path / "cache").parents if p.parent.name == "archives")
    assert {p.name for p in entry.rglob("*") if p.stat().st_ino not in synced} == {"lock"}
    many = zipped(unsplit(tmp_path / "many", 40), tmp_path / "b.zip")
    assert not system and unpack(many, tmp_path / "cache") and system
    archive._used.clear()
    damaged = next(entry.rglob("*.jpg"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    again = unpack(path, tmp_path / "cache")
    with zipfile.ZipFile(path) as source:
        assert {p.read_bytes() for p in again.rglob("*.jpg")} == {source.read(n) for n in source.namelist()}


def test_archives_unused_for_longest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "BUDGET", 1)
    monkeypatch.setattr(files, "LEASE", -1.0)
    roots = []
    for number in (2, 3):
        roots.append(unpack(zipped(unsplit(tmp_path / str(number), number), tmp_path / f"{number}.zip"), tmp_path))
        assert roots[-1].is_dir(), "in use"
        archive._used.clear()
    assert not roots[0].exists() and roots[1].is_dir()


def _entry(name: str, content: bytes = b"x", mode: int = 0) -> Callable[[zipfile.ZipFile], None]:
    def write(target: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        target.writestr(info, content)

    return write


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (_entry("../evil.jpg"), "leaves the folder"),
        (_entry("cat/../../evil.jpg"), "leaves the folder"),
        (_entry("cat\\..\\..\\evil.jpg"), "leaves the folder"),
        (_entry("/etc/evil.jpg"), "leaves the folder"),
        (_entry("C:/evil.jpg"), "leaves the folder"),
        (_entry("cat/link.jpg", b"/etc/passwd", stat.S_IFLNK | 0o777), "link"),
        (_entry("cat/" + "a/" * 1_800 + "deep.jpg"), "folders deep"),
        (_entry("cat/pipe.jpg", b"", stat.S_IFIFO | 0o666), "special file"),
        (_entry("cat/bomb.jpg", bytes(4_000_000)), "200-fold"),
        (_entry(f"cat/{'x' * 300}.jpg"), "x.jpg in the zip is refused: its name is longer than 255 bytes"),
        (_entry("cat/00.jpg/a.jpg"), "cat/00.jpg is a file in the zip, and a folder too, of cat/00.jpg/a.jpg"),
        (_entry("cat"), "cat is a file in the zip, and a folder too, of cat/00.jpg"),
    ],
)
def test_unsafe_members_are_refused(tmp_path: Path, write: Callable[[zipfile.ZipFile], None], expected: str) -> None:
    path = zipped(unsplit(tmp_path / "data", 2), tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as target:
        write(target)
    assert expected in refused(path, tmp_path / "cache")
    assert not list(tmp_path.rglob("evil.jpg"))


def test_the_same_name_twice(tmp_path: Path) -> None:
    path = zipped(unsplit(tmp_path / "data", 2), tmp_path / "a.zip")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as target:
        target.writestr("cat/00.jpg", b"x")
    assert "twice" in refused(path, tmp_path / "cache")


def test_caps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(unsplit(tmp_path / "data", 2), tmp_path / "a.zip")
    with monkeypatch.context() as patch:
        patch.setattr(archive, "MAX_MEMBERS", 3)
        assert "at most 3" in refused(path, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(archive, "MAX_BYTES", 1000)
        assert "Unpack it yourself" in refused(path, tmp_path / "cache")


def test_encrypted(tmp_path: Path) -> None:
    path = zipped(unsplit(tmp_path / "data", 2), tmp_path / "a.zip")
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 8] |= 1
    path.write_bytes(bytes(content))
    assert "encrypted" in refused(path, tmp_path / "cache")


def test_damaged_and_truncated(tmp_path: Path) -> None:
    path = zipped(unsplit(tmp_path / "data", 2), tmp_path / "a.zip")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 4] ^= 255
    path.write_bytes(bytes(flipped))
    assert "damaged zip" in refused(path, tmp_path / "cache")
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged or truncated zip" in refused(path, tmp_path / "cache")


def test_not_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_text("photographs")
    assert "not a zip" in refused(path, tmp_path / "cache")
