"""Which images belong together: a patient, a video, a burst, as `data.groups` says, by a name for each image's group.

A table has a header and a row an image: `file`, its path in the data folder or as much of the path's end as names one
image, and `group`, or a column of another name. Groups of one name in two classes are one: a patient may have images of
both.
"""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from tuner.artifacts.files import home
from tuner.errors import DataError
from tuner.images import duplicates
from tuner.images.names import listed, normal, shown
from tuner.images.records import ImageRecord, LeftOut
from tuner.spec.values import FOLDERS, TABLE

FILE = ("file", "image", "path", "filename", "file_name", "image_name")
"""What the column of files may be called."""
GROUP = "group"
FEW = 5
"""Groups of a held-out split under which there is a warning."""


@dataclass(frozen=True)
class Row:
    """One of a table: the line it ends in, the file as it is written there, the group."""

    line: int
    file: str
    group: str


@dataclass(frozen=True)
class Table:
    """A table of groups as it was read."""

    path: Path
    rows: tuple[Row, ...]


def table(asked: str, base: Path, root: Path) -> Table | None:
    """The table that `data.groups` names, looked for in the study's folder `base`, then in the data folder; None where
    it names none. Raises DataError.
    """
    named = TABLE.fullmatch(asked)
    if named is None:
        return None
    places = [Path(os.path.realpath(folder / home(named["file"]))) for folder in (base, root)]
    path = next((place for place in places if os.path.isfile(place)), None)
    if path is None:
        tried = " and ".join(dict.fromkeys(shown(place) for place in places))
        raise DataError(
            f"data.groups: no such table: {tried}; expected a .csv file with the columns {FILE[0]} and {GROUP} beside "
            "study.toml or in the data folder. Put it there, or name its path."
        )
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return Table(path, tuple(_rows(file, shown(path), named["column"] or GROUP)))
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read ({error.strerror}).") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{shown(path)}: cannot be read as a table ({error}); expected UTF-8 text with commas, semicolons or tabs "
            "between the columns. Save it as CSV (UTF-8)."
        ) from error


def _rows(file: Iterable[str], name: str, column: str) -> list[Row]:
    lines = iter(file)
    header = next((line for line in lines if line.strip()), "")
    between = max(",;\t", key=header.count)
    reader = csv.reader([header, *lines], delimiter=between, strict=True)
    known = [cell.strip() for cell in next(reader, [])]
    found = {cell.casefold(): at for at, cell in reversed(list(enumerate(known)))}
    of_file = next((found[key] for key in FILE if key in found), None)
    of_group = found.get(column.strip().casefold())
    if of_file is None or of_group is None:
        missing = f"of files (called {', '.join(FILE)})" if of_file is None else column
        raise DataError(
            f"{name}: no column {missing}; found {listed(known) or 'nothing'}. Expected the columns {FILE[0]} and "
            f'{column}: rename one, or name the column of groups in study.toml: data.groups = "FILE.csv:COLUMN".'
        )
    rows = []
    for cells in reader:
        if any(cell.strip() for cell in cells):
            cells += [""] * (len(known) - len(cells))
            rows.append(Row(reader.line_num, cells[of_file].strip(), normal(cells[of_group].strip())))
    if lacking := [f"line {row.line}" for row in rows if not row.group or not row.file]:
        raise DataError(
            f"{name}: rows without a file or a {known[of_group]}: {listed(lacking)}; expected both in each. An image "
            "that belongs to no other gets a group of its own name."
        )
    return rows


def named(
    asked: str, of_table: Table | None, images: Sequence[ImageRecord], left_out: Sequence[LeftOut], split: bool
) -> tuple[list[str], list[str]]:
    """The name of each image's group, and warnings. `split`: the data come split, so classes lie one folder deeper.

    Raises DataError, naming images, where the table or the pattern says nothing of one.
    """
    if of_table is not None:
        return _by_table(of_table, images, left_out)
    if asked == FOLDERS:
        parts = [inside(image, split) for image in images]
        if all(len(each) == 1 for each in parts):
            raise DataError(
                f'data.groups = "{FOLDERS}": every image stands in its class folder itself, such as '
                f"{shown(images[0].path)}; expected folders inside them, one a group. Make some, or name the groups by "
                "a table or a regular expression."
            )
        alone = (image.path for image in images)
        return [each[0] if len(each) > 1 else path for each, path in zip(parts, alone, strict=True)], []
    found = [re.search(asked, PurePosixPath(image.path).name) for image in images]
    if missing := [image.path for image, match in zip(images, found, strict=True) if not match or not match[1]]:
        raise DataError(
            f"data.groups: '{asked}' finds no group in the names of {len(missing)} of {len(images)} images: "
            f"{listed(missing)}. Expected one in each: write the expression wider (an image that belongs to no other "
            "may be a group of its own), or name the groups in a table."
        )
    return [normal(match[1]) for match in found if match], []


def inside(image: ImageRecord, split: bool) -> tuple[str, ...]:
    """The parts of the path inside the class folder."""
    return PurePosixPath(normal(image.path)).parts[1 + split :]


def _by_table(of: Table, images: Sequence[ImageRecord], left_out: Sequence[LeftOut]) -> tuple[list[str], list[str]]:
    where, paths = shown(of.path), [image.path for image in images]
    known, rows, nothing = _Known([*paths, *(left.path for left in left_out)]), dict[str, Row](), []
    for row in of.rows:
        found = known.named(row.file)
        if len(found) > 1:
            raise DataError(
                f"{where}, line {row.line}: {shown(row.file)} names {len(found)} files: {listed(found)}. Expected as "
                f"much of the path as names one, such as {shown(found[0])}."
            )
        if not found:
            nothing.append(row)
        elif (other := rows.setdefault(found[0], row)).group != row.group:
            raise DataError(
                f"{where}: {shown(found[0])} stands in two groups: {shown(other.group)} (line {other.line}) and "
                f"{shown(row.group)} (line {row.line}). Expected one: remove or mend a row."
            )
    said = listed((f"{row.file} (line {row.line})" for row in nothing), most=5)
    if missing := [path for path in paths if path not in rows]:
        unknown = f" Rows that name no image: {said}." if nothing else ""
        raise DataError(
            f"{where}: {len(missing)} of {len(images)} images are not in it: {listed(missing)}.{unknown} Expected a "
            "row for each, its path in the data folder; an image that belongs to no other gets a group of its own name."
        )
    warnings = [f"{where}: rows that name no image: {len(nothing)}: {said}."] if nothing else []
    return [rows[path].group for path in paths], warnings


class _Known:
    """Files by their names, with and without the ending, to be found by the end of a path."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.files: dict[str, list[tuple[PurePosixPath, str]]] = defaultdict(list)
        for path in paths:
            pure = PurePosixPath(normal(path))
            for short in {pure, pure.with_suffix("")}:
                self.files[short.name].append((short, path))

    def named(self, text: str) -> list[str]:
        """The files that a text may mean; one where it is a whole path in the data folder."""
        asked = PurePosixPath(normal(text).replace("\\", "/"))
        found = dict[str, bool]()
        for short, path in self.files.get(asked.name, []):
            depth = min(len(short.parts), len(asked.parts))
            if short.parts[-depth:] == asked.parts[-depth:]:
                found[path] = found.get(path, False) or short == asked
        return [path for path, whole in found.items() if whole] or list(found)


def united(names: Sequence[str], alike: Sequence[str]) -> list[str]:
    """For each image the smallest name of the groups that it is joined with by what looks the same, `alike`."""
    first = dict[tuple[int, str], int]()
    links = [(first.setdefault((k, name), i), i) for k, of in enumerate((names, alike)) for i, name in enumerate(of)]
    return duplicates.together(names, np.array(links, np.int64).reshape(-1, 2))


def check_splits(
    images: Sequence[ImageRecord], names: Sequence[str], alike: duplicates.Alike, allow_leak: bool
) -> list[str]:
    """Raises DataError when a group stands in two splits, unless allow_leak, which makes it a warning.

    Returns the warnings: leaks that are allowed, held-out splits of few groups, and images of two groups that look the
    same.
    """
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for image, name in zip(images, names, strict=True):
        places[name].setdefault(image.split, image.path)
    warnings = []
    if leaks := {name: splits for name, splits in places.items() if len(splits) > 1}:
        stand = "one group stands" if len(leaks) == 1 else f"{len(leaks)} groups stand"
        each = (f"{shown(name)} ({' and '.join(map(shown, splits.values()))})" for name, splits in leaks.items())
        said = f"data.groups: {stand} in two splits: {listed(each, between='; ')}."
        if not allow_leak:
            raise DataError(
                f"{said} Expected all images of a group in one split: what belongs to images that were trained on "
                "cannot be held out. Move them into one split, give class folders alone to have them split, or set "
                "data.allow_leak = true (--allow-leak) to go on, every result marked."
            )
        warnings.append(f"{said} Results on the held-out images are too good by an unknown amount.")
    for split, count in counts(images, names).items():
        if split != "train" and count < FEW:
            warnings.append(
                f"{split} holds images of {count} group{'s' * (count != 1)} (data.groups): what is found on so few "
                "need not hold for others."
            )
    if apart := alike.apart(images, names, copies=True):
        of = "Images" if len(apart) == 1 else f"{len(apart)} sets of images"
        each = (f"{shown(images[i].path)} ~ {shown(images[j].path)}" for i, j in apart)
        warnings.append(
            f"{of} of different groups look the same: {listed(each, between='; ')}. Their groups count as one."
        )
    return warnings


def counts(images: Sequence[ImageRecord], names: Sequence[object]) -> dict[str, int]:
    """{split: number of groups}."""
    held: dict[str, set[object]] = defaultdict(set)
    for image, name in zip(images, names, strict=True):
        held[image.split].add(name)
    return {split: len(of) for split, of in held.items()}


def by_number(names: Sequence[str]) -> tuple[int, ...]:
    """A number for each name, from 0 on in the order of their first."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return tuple(numbers[name] for name in names)
