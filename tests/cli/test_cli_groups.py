"""`data.groups` from `init` to the report, and what a study says when its groups are others than before."""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from cli_programs import SMALL, Tlstudy
from image_files import image_file

from tuner.evidence.results import Results
from tuner.spec.spec import load
from tuner.store import tables
from tuner.store.store import Store

PATTERN = r"^(scene\d+)_"


def scenes(root: Path, number: int = 8) -> None:
    """Of each class `number` scenes of three images, and a table of them beside the folder."""
    rows = [("file", "group", "camera")]
    for label, name in enumerate(("cat", "dog")):
        for index in range(3 * number):
            scene = f"scene{2 * (index // 3) + label}"
            image_file(root / name / f"{scene}_{index}.jpg", 100 * label + index)
            rows.append((f"{name}/{scene}_{index}.jpg", scene, f"{scene}{index % 3 == 0}"))
    with open(root.with_name("groups.csv"), "w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_names_that_look_like_groups_give_the_line_to_write(tlstudy: Tlstudy, tmp_path: Path) -> None:
    scenes(tmp_path / "photos")
    done = tlstudy("init", "photos", "--image-size", "32")
    assert "48 of 48 images have names as of 16 groups, such as cat/scene0_0.jpg" in done.text
    assert f"put this into [data] of study.toml: groups = '{PATTERN}'" in done.text
    path = tmp_path / "studies/photos/study.toml"
    path.write_text(path.read_text().replace('groups = ""', f"groups = '{PATTERN}'"))
    assert load(path).data.groups == PATTERN


def test_a_table_is_named_from_the_study_and_moves_with_it(tlstudy: Tlstudy, tmp_path: Path) -> None:
    scenes(tmp_path / "photos")
    done = tlstudy("init", "photos", "--image-size", "32", "--groups", "groups.csv:camera")
    assert done.code == 0
    assert "  val   cat 5, dog 5 in " in done.out
    assert load(tmp_path / "studies/photos/study.toml").data.groups == "../../groups.csv:camera"
    shutil.move(tmp_path / "groups.csv", tmp_path / "photos/groups.csv")
    done = tlstudy("init", "photos", "--image-size", "32", "--groups", "groups.csv", "--name", "inside")
    assert done.code == 0
    assert "  val   cat 6, dog 6 in 4 groups\n" in done.out
    assert load(tmp_path / "studies/inside/study.toml").data.groups == "groups.csv"


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("gone.csv", "data.groups: no such table: "),
        ("groups.csv:patient", "no column patient; found file, group, camera. Expected the columns file and patient"),
        (r"^(patient\d+)_", "finds no group in the names of 48 of 48 images: cat/scene0_0.jpg, "),
        ("(scene)(.)", "data.groups: found '(scene)(.)', expected \"\" for none, a table such as"),
        ("folders", "every image stands in its class folder itself, such as cat/scene"),
        ("(scene)", "1 groups cannot be split whole into train, val with images of every class"),
    ],
)
def test_bad_groups_are_refused(tlstudy: Tlstudy, tmp_path: Path, groups: str, said: str) -> None:
    scenes(tmp_path / "photos")
    done = tlstudy("init", "photos", "--image-size", "32", "--groups", groups)
    assert done.code == 2
    assert said in done.text
    assert not (tmp_path / "studies").exists()


def test_a_study_of_groups(tlstudy: Tlstudy, tmp_path: Path) -> None:
    """Searched, told about, refused with other groups, and gone on with the same ones by another name."""
    scenes(tmp_path / "photos")
    options = [*SMALL, "--max-epochs", "2", "--set", "space.head_width=0", "--set", "confirm.folds=2"]
    options += ["--set", "confirm.repeats=1", "--set", "data.test_fraction=0.2"]
    done = tlstudy("search", "--data", "photos", *options, "--set", "data.groups=groups.csv", "-q")
    assert done.code == 0
    study = tmp_path / "studies/photos"
    results, stored = Results.open(study / "study.db"), tables.read(study / "study.db")
    numbers, scene = stored.meta["groups"], [Path(image.path).name.partition("_")[0] for image in stored.images]
    assert len(set(zip(numbers, scene, strict=True))) == len(set(numbers)) == 16
    sealed = {numbers[image.number] for image in stored.images if image.split == "test"}
    assert set(results.study.groups or ()) == sealed
    left_out: dict[tuple[str, int], list[int]] = defaultdict(list)  # groups of each fold, of a side and a repeat
    for row in stored.confirmations.values():
        if row.fold >= 0:
            numbered = {numbers[number] for number in stored.held_out[row.configuration].images}
            left_out[row.source, row.repeat] += numbered
    assert len(left_out) == 2 and all(sorted({*of}) == sorted(of) for of in left_out.values())
    assert all({*of} | sealed == {*numbers} and not {*of} & sealed for of in left_out.values())
    found = results.findings()
    assert found.groups == len(sealed) < found.images
    said = tlstudy("report", "photos").text
    assert f"{found.images} images in {found.groups} groups" in said and "take every image for independent" in said
    assert json.loads(tlstudy("report", "photos", "--format", "json").out)["verdict"]["groups"] == found.groups
    assert f"test ({found.groups} groups)." in tlstudy("plan", "photos").text

    before = study.joinpath("study.db").read_bytes()
    done = tlstudy("search", "photos", "--set", "data.groups=groups.csv:camera", "-q")
    assert done.code == 2
    assert "the groups of data.groups changed, which splits, folds and intervals follow: 16 groups -> 32" in done.text
    done = tlstudy("search", "photos", "--set", "data.groups=", "-q")
    assert done.code == 2 and "intervals follow: 16 groups -> none" in done.text and "--fresh" in done.text
    assert study.joinpath("study.db").read_bytes() == before
    assert tlstudy("search", "photos", "--set", f"data.groups={PATTERN}", "-q").code == 0
    with Store(study / "study.db", readonly=True) as store:
        assert store.meta("groups") == numbers
