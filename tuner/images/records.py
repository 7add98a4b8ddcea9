"""What is known of one image file: that it is used, and how, or why it is left out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageRecord:
    """One usable image.

    path: relative to the data folder, posix. split: "train", "val" or "test". sha256: of the file's bytes. pixels:
    sha256 of the decoded full-size pixels. width, height: upright. format, mode: Pillow's names of how it is stored.
    """

    path: str
    split: str
    label: int
    sha256: str
    pixels: str
    width: int
    height: int
    format: str
    mode: str


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used. path: relative to the data folder, posix."""

    path: str
    reason: str
