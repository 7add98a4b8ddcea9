"""What is in the folder: splits, classes and files, and what is wrong with them. Opens no image.

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
from tuner.images.records import LeftOut

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


@dataclass
class Scan:
    """files: by split, class, name. left_out: what stands in class folders and is no regular file. ignored: number of
    hidden and system entries. root: with links resolved, which no link may leave. split: whether the data come split.
    """

    root: Path
    classes: tuple[str, ...] = ()
    files: tuple[Found, ...] = ()
    left_out: list[LeftOut] = field(default_factory=list)
    ignored: int = 0
    split: bool = False

    def name(self, path: Path) -> str:
        return os.fspath(path)[len(os.path.join(self.root, "")) :]

    def inside(self, folder: Path, *, of_class: bool) -> Iterator[Path]:
        """What is in a folder, by name, and may be opened; what else is in one of a class is left out."""
        for entry in _listing(folder):
            path = Path(entry)
            if ignored(entry.name):
                self.ignored += 1
            elif _plain(entry) or not (reason := _closed(path, self.root)):
                yield path
            elif of_class:
                self.left_out.append(LeftOut(self.name(path), reason))


def scan(root: Path, recursive: bool = False) -> Scan:
    """Looks at a data folder; `recursive`: folders inside a class folder belong to the class.

    Raises DataError that names what was found and what is expected.
    """
    try:
        base = Path(os.path.realpath(root, strict=True))
    except OSError as error:
        raise DataError(f"{shown(root)}: no such folder ({error.strerror}). {LAYOUTS}") from error
    if not base.is_dir():
        raise DataError(f"{shown(root)} is a file, not a folder. {LAYOUTS}")
    found = Scan(base)
    inside = list(found.inside(base, of_class=False))
    if not inside:
        raise DataError(f"{shown(base)}: the folder is empty. {LAYOUTS}")
    folders = [path for path in inside if path.is_dir()]
    splits = _split_folders(folders, found)
    _no_images(inside, base)
    contents: list[tuple[str | None, dict[str, Path]]]
    contents = [(None, _class_folders(base, folders))] if splits is None else list(splits.items())
    classes = contents[0][1]
    if len(classes) < 2:
        raise DataError(_one_class(base, classes))
    found.split, found.classes = splits is not None, tuple(sorted(classes))
    found.files = tuple(
        Found(path, split, label)
        for split, class_folders in contents
        for label, name in enumerate(found.classes)
        for path in _images(class_folders[name], found, recursive)
    )
    return found


# ---- folders -------------------------------------------------------------------------------------------------------


def _split_folders(folders: list[Path], found: Scan) -> dict[str, dict[str, Path]] | None:
    """{split: {class: folder}} in the order of SPLITS, or None when the class folders stand alone."""
    named: dict[str, list[Path]] = {}
    for folder in folders:
        named.setdefault(_SPLIT_NAMES.get(folder.name.casefold(), ""), []).append(folder)
    alone, base = named.pop("", []), shown(found.root)
    of_splits = [folder for same in named.values() for folder in same]
    # A class may be called "train" (and another "bus"), or "valid" ("broken").
    if not of_splits or (alone and not any(_holds_folders(folder) for folder in of_splits)):
        return None
    if twice := next((same for same in named.values() if len(same) > 1), None):
        raise DataError(
            f"{base}: {listed(f.name + '/' for f in twice)} stand for the same split; expected one. "
            "Merge them, or rename one."
        )
    names = listed(f.name + "/" for f in of_splits)
    if "train" not in named:
        raise DataError(f"{base}: found {names} but no train/. {LAYOUTS}")
    if "val" not in named:
        raise DataError(
            f"{base}: found {names} but no validation folder: expected val/, valid/ or validation/ beside "
            "train/ (test/ does not count: it stays unseen until the end). Add one, or give a folder with the class "
            "folders alone to have them split."
        )
    splits: dict[str, dict[str, Path]] = {}
    for split in (s for s in SPLITS if s in named):
        (folder,) = named[split]
        inside = list(found.inside(folder, of_class=False))
        _no_images(inside, folder)
        if not (classes := [path for path in inside if path.is_dir()]):
            raise DataError(f"{shown(folder)}: no class folders in it. {LAYOUTS}")
        splits[split] = _class_folders(folder, classes)
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
                f"{shown(parent)}: the class folders {ascii(other.name)} and {ascii(folder.name)} differ by {how} "
                "only; expected names that every file system can tell apart. Merge or rename them."
            )
    return {normal(folder.name): folder for folder in seen.values()}


def _same_classes(splits: dict[str, dict[str, Path]]) -> None:
    train = set(splits["train"])
    for split, classes in splits.items():
        only = {"train": sorted(train - set(classes)), split: sorted(set(classes) - train)}
        if said := [f"only in {where}/: {listed(names)}" for where, names in only.items() if names]:
            case = {folded(m) for m in only["train"]} & {folded(e) for e in only[split]}
            hint = " Names that differ by upper and lower case are different classes." if case else ""
            raise DataError(
                f"train/ and {split}/ do not hold the same classes; {'; '.join(said)}. "
                f"Expected each class in every split.{hint}"
            )


def _one_class(base: Path, classes: dict[str, Path]) -> str:
    found, hint = "no class folders", ""
    for name, inner in classes.items():  # one at most
        found = f"one class, {shown(name)}"
        if _holds_folders(inner):
            inside = f"{shown(inner.name)} holds folders itself"
            hint = f" {inside}: give {shown(inner)} if those are the splits or classes."
    return f"{shown(base)}: found {found}; expected two or more. {LAYOUTS}{hint}"


# ---- entries -------------------------------------------------------------------------------------------------------


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{shown(folder)}: the folder cannot be read ({error.strerror}). Check its permissions."
        ) from error


def _images(folder: Path, found: Scan, recursive: bool) -> list[str]:
    """Regular files of one class folder; raises DataError when there is none, or a folder that is not to be entered."""
    before = len(found.left_out)
    paths = list(_inside(folder, found, recursive))
    if not paths:
        left = found.left_out[before:]
        reasons = listed(f"{one.path}: {one.reason}" for one in left[:3])
        why = f" ({len(left)} left out: {reasons})" if left else ""
        raise DataError(
            f"{shown(found.name(folder))}: a class folder without photographs{why}; expected some. "
            "Fill it, or remove the folder from every split."
        )
    return paths


def _inside(folder: Path, found: Scan, recursive: bool) -> Iterator[str]:
    entered = [found.inside(folder, of_class=True)]  # no recursion: folders may be nested deeper than Python's stack
    while entered:
        if (path := next(entered[-1], None)) is None:
            entered.pop()
        elif not path.is_dir():
            yield found.name(path)
        elif path.is_symlink():
            found.left_out.append(LeftOut(found.name(path), "link to a folder: not followed"))
        elif recursive:
            entered.append(found.inside(path, of_class=True))
        else:
            raise DataError(
                f"{shown(found.name(folder))}: found the folder {shown(path.name)} inside a class; expected "
                "photographs only. Move its photographs up, take folders as part of their class with --recursive, or "
                "give the folder whose sub-folders are the classes."
            )


def _plain(entry: os.DirEntry[str]) -> bool:
    """A regular file or a folder, no link to one: the listing itself has told on most file systems."""
    return entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)


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
    return any(entry.is_dir() and not ignored(entry.name) for entry in _listing(folder))


def _no_images(paths: list[Path], folder: Path) -> None:
    """Images beside class folders belong to no class: an error. Any other file there (a README) counts as nothing."""
    images = [path.name for path in paths if not path.is_dir() and _is_image(path)]
    if images:
        raise DataError(
            f"{shown(folder)}: {len(images)} photograph{'s' * (len(images) > 1)} beside the class folders: "
            f"{listed(images)}. Expected every photograph inside its class folder; move them there, or out of the "
            f"data. {LAYOUTS}"
        )


def _is_image(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return sniff.kind(stream.read(sniff.HEAD)) in sniff.IMAGES
    except OSError:
        return False
