"""Images that look as if they belonged together where `data.groups` says nothing: numbered in groups by their names, or
alike. Worth a warning: a set split apart holds out what was seen, and a verdict counts each image as another chance.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from tuner.images.duplicates import Alike
from tuner.images.groups import inside
from tuner.images.names import listed, shown
from tuner.images.records import ImageRecord
from tuner.spec.values import FOLDERS

RUNNING = re.compile(r"(?P<prefix>.*?\d.*?)(?P<between>[ _.-]+)\(?[A-Za-z]*\d{1,5}\)?")
"""A file's name without its ending: something with a number in it, then a running number."""
NO_GROUP = re.compile(
    r".*(?<!\d)(19|20)\d\d[-_. ]?(0\d|1[0-2])[-_. ]?[0-3]\d"  # a day, and a year: when an image was taken
    r"|(19|20)\d\d"
    r"|[1-9]\d\d[A-Z_][A-Z0-9_]{4}"  # a camera's folder
    r"|n\d{8}"  # a word of ImageNet's: a kind of thing
)
ANY = r"^(.*?\d.*?|\D+?)(?:[ _.-]+\(?[A-Za-z]*\d{1,5}\)?)?(?:\.[^.]*)?$"
"""As `data.groups`: what stands before a running number, where it has a number itself, else the whole name."""
SHARE = 1 / 3
"""Of a class's images that must stand in groups of several before names count as a sign."""
ALIKE = 0.05
"""Of all images that must look like another one before that counts as one."""


def suspected(images: Sequence[ImageRecord], alike: Alike, split: bool) -> list[str]:
    """A warning where file names look numbered within groups, several of them in a class, each with several images, or
    where many images look like another one. split: as in `groups.named`.
    """
    members: dict[tuple[int, str], list[ImageRecord]] = defaultdict(list)
    for image in images:
        if name := _group(inside(image, split)):
            members[image.label, name].append(image)
    found: dict[str, list[ImageRecord]] = defaultdict(list)
    for label, whole in Counter(image.label for image in images).items():
        mine = {name: of for (its, name), of in members.items() if its == label and len(of) > 1}
        if len(mine) > 1 and sum(map(len, mine.values())) >= SHARE * whole:
            for name, of in mine.items():
                found[name] += of
    if not found:
        return _look_alikes(images, alike)
    most = max(found, key=lambda name: len(found[name]))
    apart = sum(len({image.split for image in of}) > 1 for of in found.values())
    return [
        f"{sum(map(len, found.values()))} of {len(images)} images have names as of {len(found)} groups, such as "
        f"{listed(sorted(image.path for image in found[most]), most=3)}; {apart} of these groups stand in two splits. "
        "If the images of one show the same (a patient, a video, a scene), they belong in one split and are no "
        f"independent images to a verdict: put this into [data] of study.toml: groups = {_line(images, found)}"
    ]


def _group(inside: tuple[str, ...]) -> str | None:
    """What the path inside a class folder looks numbered in: a folder's name with / behind it, or how a name begins."""
    if len(inside) > 1 and re.search(r"\d", inside[0]):
        return None if NO_GROUP.fullmatch(inside[0]) else f"{inside[0]}/"
    match = RUNNING.fullmatch(PurePosixPath(inside[-1]).stem)
    return None if match is None or NO_GROUP.fullmatch(match["prefix"]) else match["prefix"]


def _line(images: Sequence[ImageRecord], seen: Collection[str]) -> str:
    """The value of `data.groups` for what was seen: the plainest that finds a group in every name."""
    if all(name.endswith("/") for name in seen):
        return f'"{FOLDERS}"'
    names = [PurePosixPath(image.path).name for image in images]
    numbered = [m for name in names if (m := RUNNING.fullmatch(PurePosixPath(name).stem)) and m["prefix"] in seen]
    shapes = {f"^({_as_pattern(m['prefix'])}){_as_pattern(m['between'])}" for m in numbered}
    for pattern in [*(shapes if len(shapes) == 1 else ()), ANY]:
        if all(re.search(pattern, name) for name in names):
            return f"'{pattern}'"
    return '"groups.csv", and name file and group of each image there'


def _as_pattern(text: str) -> str:
    """A regular expression for it, with any numbers; `re.escape` would escape blanks and hyphens too."""
    return re.sub(r"\d+", r"\\d+", re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text))


def _look_alikes(images: Sequence[ImageRecord], alike: Alike) -> list[str]:
    content = [image.verdict.pixels for image in images]
    sets = alike.apart(images, content)
    names = {alike.names[content[row]] for row, _ in sets}
    rows = sum(alike.names[one] in names for one in content)
    if rows < max(4, ALIKE * len(images)):
        return []
    a, b = (images[row].path for row in sets[0])
    return [
        f"{rows} of {len(images)} images look like another one, in {len(sets)} sets, such as {shown(a)} ~ {shown(b)}: "
        "to a verdict they are independent. If those of a set show the same scene, name file and group of each image "
        'in a table, and put this into [data] of study.toml: groups = "groups.csv"'
    ]
