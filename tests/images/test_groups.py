"""`data.groups`: images that belong together never stand in two splits or folds, in whatever way they are named."""

from __future__ import annotations

import csv
import re
import shutil
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from image_files import image_file, unsplit
from images.preparing import SPEC, refused, run

from tuner.errors import DataError
from tuner.images import groups
from tuner.images.dataset import Dataset
from tuner.images.duplicates import Alike
from tuner.images.folds import assign_groups, cross_validation
from tuner.images.records import ImageRecord, Verdict
from tuner.images.suspects import suspected
from tuner.spec.spec import DataSpec

PATTERN = r"^(p\d+)_"
CLASSES = ("cat", "dog")


def patients(root: Path, name: str, number: int = 9, splits: Iterable[str] = ("",)) -> Path:
    """Of each split and class `number` patients with one to three images; patient 0 has images of both classes."""
    seed = 0
    for split in splits:
        for label, kind in enumerate(CLASSES):
            for patient in range(number):
                for image in range(1 + patient % 3):
                    seed += 1
                    who = f"p{split}{patient and 2 * patient + label}"
                    image_file(root / split / kind / name.format(who, image), seed)
    return root


def table(path: Path, rows: Iterable[tuple[str, ...]], header: tuple[str, ...] = ("file", "group"), **how: str) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, **how).writerows([header, *rows])  # type: ignore[arg-type]
    return path


def of_patient(data: Dataset) -> list[str]:
    """The patient of each image, from its path."""
    return [next(part for part in Path(p.path).parts if part.startswith("p")).partition("_")[0] for p in data.records]


def by_pattern(tmp_path: Path) -> DataSpec:
    patients(tmp_path / "data", "{}_{}.jpg")
    return replace(SPEC, groups=PATTERN)


def by_folders(tmp_path: Path) -> DataSpec:
    patients(tmp_path / "data", "{}/{}.jpg")
    return replace(SPEC, groups="folders")


def by_table(tmp_path: Path) -> DataSpec:
    root = patients(tmp_path / "data", "{}_{}.jpg")
    files = sorted(root.rglob("*.jpg"))
    table(tmp_path / "groups.csv", [(f.relative_to(root).as_posix(), f.name.partition("_")[0]) for f in files])
    return replace(SPEC, groups="groups.csv")


# ---- never in two splits or folds ----


@pytest.mark.parametrize("named", [by_pattern, by_folders, by_table])
def test_no_group_stands_in_two_splits_or_folds(tmp_path: Path, named: Callable[[Path], DataSpec]) -> None:
    spec = replace(named(tmp_path), test_fraction=0.2)
    drawn = set()
    for seed in range(12):
        data = run(tmp_path, spec, seed)
        who = of_patient(data)
        assert len(set(zip(who, data.groups, strict=True))) == len(set(who)) == len(set(data.groups))
        splits: dict[str, set[str]] = defaultdict(set)
        for patient, image in zip(who, data.records, strict=True):
            splits[patient].add(image.split)
        assert all(len(of) == 1 for of in splits.values())
        assert all(min(counts.values()) >= 1 + (split == "train") for split, counts in data.counts().items())
        assert data.group_counts() == Counter(next(iter(of)) for of in splits.values())
        rows = data.indices("train"), data.indices("val")
        groups = np.array(data.groups)
        for fold in cross_validation(data.labels, groups, *rows, folds=3, seed=seed, repeat=0):
            parts = [set(groups[part].tolist()) for part in (fold.train, fold.validation, fold.out)]
            assert sum(map(len, parts)) == len(set.union(*parts))
        drawn.add(tuple(sorted(image.path for image in data.records if image.split == "val")))
    assert len(drawn) > 6


def test_every_way_of_naming_gives_the_same_split(tmp_path: Path) -> None:
    one = run(tmp_path, by_pattern(tmp_path), 3)
    other = run(tmp_path, by_table(tmp_path), 3)
    assert (one.records, one.groups, one.key) == (other.records, other.groups, other.key)


def test_what_looks_the_same_unites_groups_and_is_said(tmp_path: Path) -> None:
    spec = by_pattern(tmp_path)
    before = run(tmp_path, spec)
    image_file(tmp_path / "data/cat/p2_9.jpg", 777, 160, 120)
    image_file(tmp_path / "data/cat/p4_9.png", 777, 160, 120)
    data = run(tmp_path, spec)
    of = dict(zip(of_patient(data), data.groups, strict=True))
    assert of["p2"] == of["p4"]
    assert len(set(data.groups)) == len(set(before.groups)) - 1
    assert any("Images of different groups look the same: " in warning for warning in data.warnings)


def test_without_groups_nothing_is_grouped(tmp_path: Path) -> None:
    patients(tmp_path / "data", "{}_{}.jpg")
    data = run(tmp_path)
    assert not data.grouped and data.group_counts() == {}
    assert data.groups == tuple(range(len(data.records)))


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[int], list[str]]:
    """Labels and groups of images, three classes, groups of one class each."""
    sizes = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), min_size=12, max_size=60))
    each = [(label, f"group {number}") for number, (label, size) in enumerate(sizes) for _ in range(size)]
    return [label for label, _ in each], [name for _, name in each]


@given(grouped(), st.floats(0.1, 0.3), st.sampled_from([0.0, 0.15]), st.integers(0, 9), st.randoms())
def test_splits_are_near_their_fractions_and_do_not_hang_on_order(
    made: tuple[list[int], list[str]], validation: float, test: float, seed: int, random: object
) -> None:
    labels, groups = made
    sizes = {label: Counter(g for g, other in zip(groups, labels, strict=True) if other == label) for label in range(3)}
    assume(all(len(of) >= 4 for of in sizes.values()))
    splits = assign_groups(labels, groups, validation, test, seed, "abc")
    where = dict(zip(groups, splits, strict=True))
    assert [where[group] for group in groups] == splits
    for label, of in sizes.items():
        for split, fraction in {"val": validation, "test": test}.items():
            got = sum(count for group, count in of.items() if where[group] == split)
            # Half a group, or the smallest one where all are larger; a set that is filled later may lack room.
            assert got == 0 if not fraction else 0 < got <= fraction * of.total() + max(of.values()), label
        assert sum(count for group, count in of.items() if where[group] == "train") >= 2
    items = list(zip(labels, groups, strict=True))
    random.shuffle(items)  # type: ignore[attr-defined]
    again = assign_groups(*map(list, zip(*items, strict=True)), validation, test, seed, "abc")  # type: ignore[arg-type]
    assert dict(zip((group for _, group in items), again, strict=True)) == where


def test_small_groups_come_to_the_fraction() -> None:
    labels, groups = [i % 2 for i in range(400)], [f"{i // 4}" for i in range(400)]
    for seed in range(20):
        splits = Counter(zip(assign_groups(labels, groups, 0.2, 0.1, seed, "ab"), labels, strict=True))
        assert [splits["val", label] for label in (0, 1)] == [40, 40]
        assert [splits["test", label] for label in (0, 1)] == [20, 20]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 11)), min_size=40, max_size=80), st.integers(0, 3))
def test_groups_of_several_classes_are_split_whole_or_refused(images: list[tuple[int, int]], seed: int) -> None:
    labels, groups = [label for label, _ in images], [f"g{group}" for _, group in images]
    assume(set(labels) == {0, 1, 2})
    try:
        splits = assign_groups(labels, groups, 0.2, 0.2, seed, "abc")
    except DataError as error:
        assert "cannot be split whole" in str(error)  # noqa: PT017 - either is right
        return
    assert len(set(zip(groups, splits, strict=True))) == len(set(groups))
    assert {(s, c) for s in ("train", "val", "test") for c in range(3)} == set(zip(splits, labels, strict=True))


def test_a_test_set_of_few_groups_is_not_sealed_by_itself() -> None:
    assert DataSpec().test_share(500, 24) == 0
    assert DataSpec().test_share(500, 25) == DataSpec().test_share(500) == 0.2
    assert replace(DataSpec(), test_fraction=0.1).test_share(500, 3) == 0.1


# ---- ways of writing a table ----


def test_a_table_may_stand_in_the_data_or_in_the_zip(tmp_path: Path) -> None:
    spec = by_table(tmp_path)
    beside = run(tmp_path, spec)
    shutil.move(tmp_path / "groups.csv", tmp_path / "data/groups.csv")
    assert run(tmp_path, spec).groups == beside.groups
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        for file in (tmp_path / "data").rglob("*.*"):
            packed.write(file, file.relative_to(tmp_path / "data"))
    shutil.rmtree(tmp_path / "data")
    assert run(tmp_path, replace(spec, path="data.zip")).groups == beside.groups


@pytest.mark.parametrize(
    "written",
    [
        lambda path: str(path),
        lambda path: str(path).replace("/", "\\"),
        lambda path: f"/home/me/data/{path}",
        lambda path: path.name,
        lambda path: path.stem,
    ],
    ids=["path", "backslashes", "absolute", "name", "stem"],
)
@pytest.mark.parametrize("between", [",", ";", "\t"])
def test_as_much_of_a_path_as_names_one_image(tmp_path: Path, written: Callable[[Path], str], between: str) -> None:
    expected = run(tmp_path, by_pattern(tmp_path)).groups
    files = [file.relative_to(tmp_path / "data") for file in sorted((tmp_path / "data").rglob("*.jpg"))]
    own = [f for f in files if not f.name.startswith("p0_")]  # patient 0 has the same names in both classes
    rows = [(f.name.partition("_")[0], "x", written(f)) for f in own]
    rows += [("p0", "y", str(f)) for f in files if f not in own]
    table(tmp_path / "T.csv", rows, ("Patient", "age", "Image"), delimiter=between)
    assert run(tmp_path, replace(SPEC, groups="T.csv:patient")).groups == expected


def test_folders_may_stand_beside_images_that_are_alone(tmp_path: Path) -> None:
    spec = by_folders(tmp_path)
    image_file(tmp_path / "data/cat/alone.jpg", 501)
    image_file(tmp_path / "data/dog/alone.jpg", 502)
    image_file(tmp_path / "data/dog/p4/left/deep.jpg", 503)
    data = run(tmp_path, spec)
    of = {image.path: group for image, group in zip(data.records, data.groups, strict=True)}
    assert of["dog/p4/left/deep.jpg"] not in (of["cat/alone.jpg"], of["dog/alone.jpg"])
    assert len(set(data.groups)) == 17 + 2  # p4, a cat's, is a dog's too now


def test_rows_that_name_no_image_are_a_warning_and_files_left_out_are_known(tmp_path: Path) -> None:
    spec = by_table(tmp_path)
    (tmp_path / "data/cat/notes.txt").write_text("notes")
    with open(tmp_path / "groups.csv", "a") as file:
        file.write("cat/notes.txt,p1\r\ncat/gone.jpg,p1\r\n\r\n")
    warnings = run(tmp_path, spec).warnings
    assert f"{tmp_path / 'groups.csv'}: rows that name no image: 1: cat/gone.jpg (line 39)." in warnings


# ---- what is refused ----


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        (("file", "patient"), ("cat/00.jpg", "1"), "no column group; found file, patient. Expected the columns file"),
        (("name", "group"), ("cat/00.jpg", "1"), "no column of files (called file, image, "),
        (("file", "group"), ("cat/00.jpg", " "), "rows without a file or a group: line 2; expected both"),
        (("file", "group"), ("cat/00.jpg",), "rows without a file or a group: line 2"),
        (("file", "group"), ("cat/00.jpg", "1"), "19 of 20 images are not in it: cat/01.jpg, cat/02.jpg, "),
        (("file", "group"), ("cow/00.jpg", "1"), "Rows that name no image: cow/00.jpg (line 2). Expected a row for"),
        (("file", "group"), ("00.jpg", "1"), "line 2: 00.jpg names 2 files: cat/00.jpg, dog/00.jpg. Expected as much"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path: Path, header: tuple[str, ...], row: tuple[str, ...], said: str) -> None:
    unsplit(tmp_path / "data", 10)
    path = table(tmp_path / "groups.csv", [row], header)
    message = refused(tmp_path, replace(SPEC, groups="groups.csv"))
    assert str(path) in message and said in message


def test_an_image_in_two_groups(tmp_path: Path) -> None:
    unsplit(tmp_path / "data", 10)
    table(tmp_path / "groups.csv", [("cat/00.jpg", "a"), ("cat/00.jpg", "a"), ("00.jpg", "b"), ("cat/00", "b")])
    assert "00.jpg names 2 files" in refused(tmp_path, replace(SPEC, groups="groups.csv"))
    table(tmp_path / "groups.csv", [("cat/00.jpg", "a"), ("cat/00.jpg", "a"), ("cat/00", "b")])
    said = refused(tmp_path, replace(SPEC, groups="groups.csv"))
    assert "cat/00.jpg stands in two groups: a (line 2) and b (line 4)" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such table: "),
        (b"", "no column of files (called file, image, path, filename, file_name, image_name); found nothing"),
        (b"\xff\xfe\x00", "cannot be read as a table"),
        (b'file,group\n"a,b', "cannot be read as a table"),
        (b"PK\x03\x04\x00\xff\xff", "cannot be read as a table"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path: Path, content: bytes | None, said: str) -> None:
    unsplit(tmp_path / "data", 10)
    if content is not None:
        (tmp_path / "groups.csv").write_bytes(content)
    message = refused(tmp_path, replace(SPEC, groups="groups.csv"))
    assert said in message and str(tmp_path / "groups.csv") in message
    assert not (tmp_path / "cache").exists()


CELLS = st.text("ab/.\\\"' \n\r\0\ufeff,;\té", max_size=8) | st.sampled_from(["a/1.jpg", "1.jpg", "b/2"])
TABLES = st.lists(st.lists(CELLS, max_size=3).map(",".join), max_size=4).map(
    lambda rows: "\n".join(["file,group", *rows]).encode()
)


@given(TABLES | st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_table_names_groups_or_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    images = [ImageRecord(path, "train", 0, "", Verdict()) for path in ("a/1.jpg", "b/1.jpg", "b/2.png")]
    try:
        found = groups.table("t.csv", tmp_path, tmp_path)
        names, _ = groups.named("t.csv", found, images, [], split=False)
    except DataError as error:
        assert str(tmp_path / "t.csv") in str(error)  # noqa: PT017 - either is right
    else:
        assert len(names) == 3 and all(names)


def test_a_pattern_has_to_find_a_group_in_every_name(tmp_path: Path) -> None:
    unsplit(tmp_path / "data", 10)
    said = refused(tmp_path, replace(SPEC, groups=PATTERN))
    assert r"'^(p\d+)_' finds no group in the names of 20 of 20 images: cat/00.jpg, " in said
    said = refused(tmp_path, replace(SPEC, groups="0([1-8]?)"))
    assert "the names of 4 of 20 images: cat/00.jpg, cat/09.jpg, dog/00.jpg, dog/09.jpg. Expected one in each" in said


def test_folders_have_to_be_there(tmp_path: Path) -> None:
    unsplit(tmp_path / "data", 10)
    assert "every image stands in its class folder itself, such as cat/00.jpg" in refused(
        tmp_path, replace(SPEC, groups="folders")
    )


def test_too_few_groups_to_split(tmp_path: Path) -> None:
    patients(tmp_path / "data", "{}_{}.jpg", number=2)
    assert (
        "class cat has fewest: 3 images in 2 groups. Expected at least 3 groups with images of each class"
        in refused(tmp_path, replace(SPEC, groups=PATTERN, test_fraction=0.2))
    )
    assert "set data.test_fraction = 0" not in refused(tmp_path, replace(SPEC, groups="(p)"))


def test_too_few_groups_for_folds(tmp_path: Path) -> None:
    patients(tmp_path / "data", "{}_{}.jpg", number=3)
    data = run(tmp_path, replace(SPEC, groups=PATTERN))
    with pytest.raises(DataError, match=r"class cat has 3 groups \(data.groups\) to .* Add images of other groups, or"):
        data.check_folds(folds=2, repeats=1, seed=0)
    shutil.rmtree(tmp_path / "data")
    patients(tmp_path / "data", "{}_{}.jpg")
    (said,) = run(tmp_path, replace(SPEC, groups=PATTERN)).check_folds(folds=12, repeats=1, seed=0)
    assert "folds instead of 12, as class cat has 9 groups (data.groups) to train and validate on" in said


@pytest.mark.parametrize("named", [PATTERN, "folders"])
def test_a_group_in_two_of_the_users_own_splits_is_a_leak(tmp_path: Path, named: str) -> None:
    name = "{}/{}.jpg" if named == "folders" else "{}_{}.jpg"
    root = patients(tmp_path / "data", name, number=5, splits=("train", "val"))
    own = replace(SPEC, groups=PATTERN.replace("p", "p[a-z]+") if named == PATTERN else named)
    data = run(tmp_path, own)
    assert data.group_counts() == {"train": 9, "val": 9} and data.warnings == ()
    other = root / "val/dog" / name.format("ptrain2", 7)
    image_file(other, 4000)
    said = refused(tmp_path, own)
    assert "one group stands in two splits: ptrain2 (train/cat/ptrain2" in said
    assert f"and {other.relative_to(root)})" in said and "--allow-leak" in said
    leaky = run(tmp_path, replace(own, allow_leak=True))
    assert "too good by an unknown amount" in leaky.warnings[0]


def test_few_groups_are_said(tmp_path: Path) -> None:
    patients(tmp_path / "data", "{}_{}.jpg", number=5)
    data = run(tmp_path, replace(SPEC, groups=PATTERN))
    count = data.group_counts()["val"]
    assert 2 <= count < 5
    assert (
        f"val holds images of {count} groups (data.groups): what is found on so few need not hold" in data.warnings[-1]
    )


# ---- suspected ----


def warned(**classes: list[str]) -> list[str]:
    images = [
        ImageRecord(f"{name}/{file}", "train", label, "", Verdict())
        for label, (name, files) in enumerate(classes.items())
        for file in files
    ]
    return suspected(images, Alike([""], np.empty((0, 2), np.int64)), split=False)


NUMBERS = [(group, image) for group in (1, 2, 10, 11) for image in (1, 2, 5)]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("patient{}_{:02}.jpg", r"'^(patient\d+)_'"),
        ("video{}_frame_{:04}.png", r"'^(video\d+_frame)_'"),
        ("scene{}-{}.jpg", r"'^(scene\d+)-'"),
        ("{:08}_{:03}.png", r"'^(\d+)_'"),
        ("v{} f{}.png", r"'^(v\d+) '"),
        ("a{}.b{}.png", r"'^(a\d+)\.'"),
        ("p{}/{}.png", '"folders"'),
    ],
)
def test_names_that_look_like_groups(name: str, line: str) -> None:
    (said,) = warned(cat=[name.format(*n) for n in NUMBERS], dog=[name.format(9, n) for n in range(20)])
    assert said.startswith("12 of 32 images have names as of 4 groups, such as cat/")
    assert said.endswith(f"put this into [data] of study.toml: groups = {line}")


def test_names_of_several_shapes_get_a_line_that_fits_all() -> None:
    files = [f"person{p}_{kind}_{k}.jpg" for p in range(4) for kind in ("virus", "bacteria") for k in range(3)]
    others = ["IMG_0001.jpg", "IMG_0002.jpg", "NORMAL2-IM-1427-0001.jpg", "NORMAL2-IM-1427-0002.jpg", "x.png", "7"]
    (said,) = warned(ill=files, well=others)
    line = said.rpartition("groups = '")[2].removesuffix("'")
    groups = [found[1] for file in files + others if (found := re.search(line, file))]
    assert len(set(groups)) == 8 + 5
    assert groups[-6:] == ["IMG_0001", "IMG_0002", "NORMAL2-IM-1427", "NORMAL2-IM-1427", "x", "7"]


@pytest.mark.parametrize(
    "files",
    [
        [f"IMG_{i:04}.jpg" for i in range(30)],
        [f"urban_{i}.jpeg" for i in range(30)],
        [f"cat.{i}.jpg" for i in range(30)],
        [f"images ({i}).jpeg" for i in range(9)] + [f"download ({i}).jpg" for i in range(9)],
        [f"n0144076{k}_{i}.JPEG" for k in (4, 5) for i in range(20)],
        [f"IMG_201903{d:02}_1407{s:02}.jpg" for d in range(1, 5) for s in range(5)],
        [f"IMG-201903{d:02}-WA{k:04}.jpg" for d in range(1, 5) for k in range(5)],
        [f"2019-03-{d:02}_{k}.jpg" for d in range(1, 5) for k in range(5)],
        [f"ISIC_{i * 7919 % 99991:07}.jpg" for i in range(30)],
        [f"Bengal_{i}.jpg" for i in range(20)] + [f"Persian_{i}.jpg" for i in range(20)],
        [f"{i * 7919}_{i * 104729:010x}_z.jpg" for i in range(20)],
        [f"IMG_{i:04}{end}.jpg" for i in range(9) for end in ("", " (1)")],
        [f"class1_{i:03}.jpg" for i in range(30)],
        [f"10{folder}CANON/IMG_{i:04}.JPG" for folder in (0, 1) for i in range(9)],
        [f"20{year}/{i}.jpg" for year in (18, 19, 20) for i in range(9)],
        [f"Bengal/{i}.jpg" for i in range(9)] + [f"Persian/{i}.jpg" for i in range(9)],
    ],
    ids=lambda files: files[0],
)
def test_names_that_do_not(files: list[str]) -> None:
    assert warned(one=files, other=files) == []


def test_many_look_alikes_are_a_sign(tmp_path: Path) -> None:
    root = unsplit(tmp_path / "data", 12)
    for index in range(3):
        for size in ((160, 120), (320, 240)):
            image_file(root / "cat" / f"again{'abc'[index]}{size[0]}.png", 600 + index, *size)
    said = [warning for warning in run(tmp_path).warnings if "look like another one" in warning]
    assert len(said) == 1
    assert "6 of 30 images look like another one, in 3 sets, such as cat/againa160.png ~ cat/againa320.png" in said[0]
    assert said[0].endswith('groups = "groups.csv"')
