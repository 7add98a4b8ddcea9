"""What a file is, by its first bytes: suffixes lie, and Pillow says no more than "cannot identify"."""

from __future__ import annotations

import codecs

HEAD = 4096
"""Bytes that `kind` wants to see."""

IMAGES = {"JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "HEIC"}
"""Kinds that are images to a person, whether or not this machine can read them."""

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"%PDF", "PDF"),
    (b"8BPS", "Photoshop file"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"PK\x03\x04", "zip archive"),
    (b"PK\x05\x06", "zip archive"),
    (b"Rar!", "RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"\x1f\x8b", "gzip file"),
    (b"SQLite format 3\0", "SQLite database"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF", "HDF5 file"),
    (b"\x1a\x45\xdf\xa3", "video"),
)
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}


def kind(head: bytes) -> str:
    """A name for the content: one of IMAGES, another format's name, "HTML text", "SVG drawing", "text", "" if unknown.

    head: the file's first `HEAD` bytes, or all of a shorter file.
    """
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else "sound or video"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return _text(head)


def _iso_media(head: bytes) -> str:
    """HEIC, AVIF and MP4 share a container; the brands tell them apart, and a major brand `mif1` may be either."""
    length = max(16, min(int.from_bytes(head[:4], "big"), len(head)))
    brands = {head[8:12]} | {head[i : i + 4] for i in range(16, length - 3, 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & _HEIC else "video"


def _text(head: bytes) -> str:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "text"
    body = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    start = body[:512].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "HTML text"
    if start.startswith(b"<svg") or (start.startswith(b"<?xml") and b"<svg" in body.lower()):
        return "SVG drawing"
    if not body or any(byte < 32 and byte not in (9, 10, 12, 13, 27) for byte in head):
        return ""
    try:  # the cut at HEAD may fall inside a character
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return ""
    return "text"
