"""What is in the folder: splits, classes and files, and what is wrong with them. Opens no photograph.

photos/train/<class>/*  photos/val|valid|validation/<class>/*  [photos/test/<class>/*]     or     photos/<class>/*
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tuner.errors import DataError
from tuner.images import sniff
from tuner.images.names import folded, ignored, listed, normal, shown

SPLITS = ("train", "val", "test")
LAYOUTS = (
    "Expected train/ and val/ (or valid/, validation/), test/ if wanted, each with one folder of photographs per "
    "class; or one folder per class alone, split by the fractions; or a .zip of either."
)
_SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Found:
    """One regular file in a class folder. path: relative to the root, posix. split: None when the data come unsplit."""

    path: str
    split: str | None
    label: int


@dataclass(frozen=True)
class Scan:
    """files: by split, class, name. left_out: (path, reason) of what stands in class folders and is no regular file.
    beside: the same for what stands outside them. ignored: number of hidden and system entries."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[Found, ...]
    left_out: tuple[tuple[str, str], ...]
    beside: tuple[tuple[str, str], ...]
    ignored: int
    split: bool


@dataclass
class _Notes:
    """What the walk meets on its way. base: the data folder with links resolved, which no link may leave."""

    base: Path
    left_out: list[tuple[str, str]] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)
    ignored: int = 0

    def name(self, path: Path) -> str:
        return path.relative_to(self.base).as_posix()


def scan(root: Path, recursive: bool = False) -> Scan:
    """Looks at a data folder; `recursive`: folders inside a class folder belong to the class.

    Raises DataError that names what was found and what is expected.
    """
    try:
        base = Path(os.path.realpath(root, strict=True))
    except OSError as error:
        raise DataError(f"{shown(str(root))}: no such folder ({error.strerror}). {LAYOUTS}") from error
    if not base.is_dir():
        raise DataError(f"{shown(str(root))} is a file, not a folder. {LAYOUTS}")
    notes = _Notes(base)
    folders, files = _entries(base, notes)
    if not folders and not files:
        raise DataError(f"{shown(str(root))}: the folder is empty. {LAYOUTS}")
    splits = _split_folders(base, folders, notes)
    _no_images(files, base, notes)
    contents: list[tuple[str | None, dict[str, Path]]]
    contents = [(None, _class_folders(base, folders))] if splits is None else list(splits.items())
    classes = contents[0][1]
    if len(classes) < 2:
        raise DataError(_one_class(base, classes))
    names = tuple(sorted(classes))
    found = tuple(
        Found(path, split, label)
        for split, inside in contents
        for label, name in enumerate(names)
        for path in _photographs(inside[name], notes, recursive)
    )
    return Scan(base, names, found, tuple(notes.left_out), tuple(notes.beside), notes.ignored, splits is not None)


# ---- folders -------------------------------------------------------------------------------------------------------


def _split_folders(base: Path, folders: list[Path], notes: _Notes) -> dict[str, dict[str, Path]] | None:
    """{split: {class: folder}} in the order of SPLITS, or None when the class folders stand alone."""
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if (split := _SPLIT_NAMES.get(folder.name.casefold())) is not None:
            found.setdefault(split, []).append(folder)
    alone = [f for f in folders if f.name.casefold() not in _SPLIT_NAMES]
    holding = [f for same in found.values() for f in same if _holds_folders(f)]
    if not found or (alone and not holding):  # a class may be called "train" (and another "bus"), or "valid" ("broken")
        return None
    for same in found.values():
        if len(same) > 1:
            raise DataError(
                f"{shown(str(base))}: {listed(f.name + '/' for f in same)} stand for the same split; expected one. "
                "Merge them, or rename one."
            )
    names = listed(f.name + "/" for same in found.values() for f in same)
    if "train" not in found:
        raise DataError(f"{shown(str(base))}: found {names} but no train/. {LAYOUTS}")
    if "val" not in found:
        raise DataError(
            f"{shown(str(base))}: found {names} but no validation folder: expected val/, valid/ or validation/ beside "
            "train/ (test/ does not count: it stays unseen until the end). Add one, or give a folder with the class "
            "folders alone to have them split."
        )
    for folder in alone:
        notes.beside.append((notes.name(folder), "folder beside train/ and val/: not looked into"))
    splits: dict[str, dict[str, Path]] = {}
    for split in (s for s in SPLITS if s in found):
        inside, files = _entries(found[split][0], notes)
        _no_images(files, found[split][0], notes)
        if not inside:
            raise DataError(f"{shown(str(found[split][0]))}: no class folders in it. {LAYOUTS}")
        splits[split] = _class_folders(found[split][0], inside)
    _same_classes(splits)
    return splits


def _class_folders(parent: Path, folders: list[Path]) -> dict[str, Path]:
    """{class name: folder}. Raises DataError for names that differ by case or Unicode normalisation only."""
    seen: dict[str, Path] = {}
    for folder in folders:
        other = seen.setdefault(folded(folder.name), folder)
        if other is not folder:
            how = "Unicode normalisation" if normal(other.name) == normal(folder.name) else "upper and lower case"
            raise DataError(
                f"{shown(str(parent))}: the class folders {ascii(other.name)} and {ascii(folder.name)} differ by {how} "
                "only; expected names that every file system can tell apart. Merge or rename them."
            )
    return {normal(folder.name): folder for folder in seen.values()}


def _same_classes(splits: dict[str, dict[str, Path]]) -> None:
    train = set(splits["train"])
    for split, classes in splits.items():
        missing, extra = sorted(train - set(classes)), sorted(set(classes) - train)
        if missing or extra:
            said = [f"only in train/: {listed(missing)}"] * bool(missing) + [
                f"only in {split}/: {listed(extra)}"
            ] * bool(extra)
            case = {folded(m) for m in missing} & {folded(e) for e in extra}
            hint = " Names that differ by upper and lower case are different classes." if case else ""
            raise DataError(
                f"train/ and {split}/ do not hold the same classes; {'; '.join(said)}. "
                f"Expected each class in every split.{hint}"
            )


def _one_class(base: Path, classes: dict[str, Path]) -> str:
    found = f"one class, {shown(next(iter(classes)))}" if classes else "no class folders"
    hint = ""
    if classes and _holds_folders(inner := next(iter(classes.values()))):
        hint = (
            f" {shown(inner.name)} holds folders itself: give {shown(str(inner))} if those are the splits or classes."
        )
    return f"{shown(str(base))}: found {found}; expected two or more. {LAYOUTS}{hint}"


# ---- entries -------------------------------------------------------------------------------------------------------


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted((Path(entry) for entry in os.scandir(folder)), key=lambda path: path.name)
    except OSError as error:
        raise DataError(
            f"{shown(str(folder))}: the folder cannot be read ({error.strerror}). Check its permissions."
        ) from error


def _entries(folder: Path, notes: _Notes) -> tuple[list[Path], list[Path]]:
    """Folders and regular files in a folder that is no class folder; links that may not be followed are noted."""
    folders, files = [], []
    for path in _listing(folder):
        if ignored(path.name):
            notes.ignored += 1
        elif reason := _closed(path, notes.base):
            notes.beside.append((notes.name(path), reason))
        elif path.is_dir():
            folders.append(path)
        else:
            files.append(path)
    return folders, files


def _photographs(folder: Path, notes: _Notes, recursive: bool) -> list[str]:
    """Regular files of one class folder; raises DataError when there is none, or a folder that is not to be entered."""
    before = len(notes.left_out)
    found = list(_inside(folder, notes, recursive))
    if not found:
        left = notes.left_out[before:]
        why = f" ({len(left)} left out: {listed(f'{name}: {reason}' for name, reason in left[:3])})" if left else ""
        raise DataError(
            f"{shown(notes.name(folder))}: a class folder without photographs{why}; expected some. "
            "Fill it, or remove the folder from every split."
        )
    return found


def _inside(folder: Path, notes: _Notes, recursive: bool) -> Iterator[str]:
    for path in _listing(folder):
        if ignored(path.name):
            notes.ignored += 1
        elif reason := _closed(path, notes.base):
            notes.left_out.append((notes.name(path), reason))
        elif not path.is_dir():
            yield notes.name(path)
        elif path.is_symlink():
            notes.left_out.append((notes.name(path), "link to a folder: not followed"))
        elif recursive:
            yield from _inside(path, notes, recursive)
        else:
            raise DataError(
                f"{shown(notes.name(folder))}: found the folder {shown(path.name)} inside a class; expected "
                "photographs only. Move its photographs up, take folders as part of their class with --recursive, or "
                "give the folder whose sub-folders are the classes."
            )


def _closed(path: Path, base: Path) -> str:
    """Why this entry must not be opened, or "": a link may lead anywhere, opening a pipe waits for ever."""
    try:
        real = Path(os.path.realpath(path, strict=True)) if path.is_symlink() else path
        mode = os.stat(real).st_mode
    except FileNotFoundError:
        return "link to nothing"
    except OSError as error:  # ELOOP among them
        return f"link in a circle or unreadable ({error.strerror})"
    if path.is_symlink():
        if not real.is_relative_to(base):
            return "link that leaves the data folder: not followed"
        if path.is_relative_to(real):
            return "link in a circle: not followed"
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))
    return next((f"{name}, not a regular file" for test, name in kinds if test(mode)), "not a regular file")


def _holds_folders(folder: Path) -> bool:
    return any(path.is_dir() and not ignored(path.name) for path in _listing(folder))


def _no_images(files: list[Path], folder: Path, notes: _Notes) -> None:
    """Photographs beside class folders belong to no class: an error. Anything else there (a README) is noted."""
    images = []
    for path in files:
        try:
            with open(path, "rb") as stream:
                kind = sniff.kind(stream.read(sniff.HEAD))
        except OSError:
            kind = ""
        if kind in sniff.IMAGES:
            images.append(path.name)
        else:
            notes.beside.append((notes.name(path), "beside the class folders"))
    if images:
        raise DataError(
            f"{shown(str(folder))}: {len(images)} photograph{'s' * (len(images) > 1)} beside the class folders: "
            f"{listed(images)}. Expected every photograph inside its class folder; move or remove them. {LAYOUTS}"
        )
