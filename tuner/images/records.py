"""What is known of one image file: that it is used, and how, or why it is left out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What decoding told. reason: why the file is left out, or "" for an image. pixels: sha256 of the decoded full-size
    pixels. width, height: upright. format, mode: Pillow's names of how it is stored. frames: it has several. uniform:
    of a single colour. look: `duplicates.look`.
    """

    reason: str = ""
    pixels: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    frames: bool = False
    uniform: bool = False
    look: str = ""


@dataclass(frozen=True)
class ImageRecord:
    """One usable image.

    path: relative to the data folder, posix. split: "train", "val" or "test". sha256: of the file's bytes.
    """

    path: str
    split: str
    label: int
    sha256: str
    verdict: Verdict


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used. path: relative to the data folder, posix."""

    path: str
    reason: str
