"""Which study STUDY means, and why; how a study names its photographs; the demo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_study import make_study

from tuner.errors import StudyError
from tuner.spec.spec import Spec, load
from tuner.store import locate as studies
from tuner.store.folder import StudyFolder
from tuner.store.locate import demo_spec, locate, name_for, write_demo, written_path


def study(folder: Path, age: int = 0) -> Path:
    """A study that was touched `age` seconds before the year 2001 was out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text("")
    os.utime(folder / "study.toml", (1e9 - age, 1e9 - age))
    return folder


def found(given: str | None, cwd: Path) -> tuple[Path, str]:
    located = locate(given, cwd)
    return located.folder.root, located.why


# ---- without STUDY -------------------------------------------------------------------------------------------------


def test_nothing_anywhere_is_the_demo(tmp_path: Path) -> None:
    assert found(None, tmp_path) == (tmp_path / "studies" / "demo", "the demo, as there is no study here yet")
    assert not any(tmp_path.iterdir())


def test_the_study_in_this_folder_comes_first(tmp_path: Path) -> None:
    study(tmp_path / "studies" / "other")
    study(tmp_path)
    assert found(None, tmp_path) == (tmp_path, "the study in this folder")


def test_then_the_only_study(tmp_path: Path) -> None:
    only = study(tmp_path / "studies" / "only")
    (tmp_path / "studies" / "not a study").mkdir()
    assert found(None, tmp_path) == (only, "the only study under studies/")


def test_then_the_one_touched_last_by_question_or_results(tmp_path: Path) -> None:
    old, new = study(tmp_path / "studies" / "a", age=100), study(tmp_path / "studies" / "b", age=50)
    third = study(tmp_path / "studies" / "c", age=200)
    why = "the most recently touched of 3 studies under studies/"
    assert found(None, tmp_path) == (new, why)
    make_study(old)
    os.utime(old / "study.db", (1e9 - 10, 1e9 - 10))
    assert found(None, tmp_path) == (old, why)
    os.utime(third / "study.toml", (1e9, 1e9))
    assert found(None, tmp_path) == (third, why)


# ---- STUDY ---------------------------------------------------------------------------------------------------------


def test_a_folder_its_file_and_its_name_are_one_study(tmp_path: Path) -> None:
    root = study(tmp_path / "studies" / "my photos")
    assert found("my photos", tmp_path) == (root, "by its name under studies/")
    for name in ("studies/my photos", "studies/my photos/", "studies/my photos/study.toml", str(root)):
        assert found(name, tmp_path) == (root, "as named")


def test_a_folder_here_comes_before_a_name_under_studies(tmp_path: Path) -> None:
    study(tmp_path / "studies" / "x")
    here = study(tmp_path / "x")
    assert found("x", tmp_path) == (here, "as named")


def test_a_folder_of_photographs_does_not_hide_a_study_of_its_name(tmp_path: Path) -> None:
    root = study(tmp_path / "studies" / "photos")
    (tmp_path / "photos").mkdir()
    assert found("photos", tmp_path) == (root, "by its name under studies/")


def test_results_without_a_question_are_a_study_too(tmp_path: Path) -> None:
    make_study(tmp_path / "results")
    assert found("results", tmp_path) == (tmp_path / "results", "as named")


def test_the_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = study(tmp_path / "x")
    assert found("~/x", tmp_path / "elsewhere") == (root, "as named")


def test_the_demo_needs_no_folder(tmp_path: Path) -> None:
    assert found("demo", tmp_path) == (tmp_path / "studies" / "demo", "the demo")
    assert not any(tmp_path.iterdir())


def test_a_typo_names_the_nearest_study(tmp_path: Path) -> None:
    study(tmp_path / "studies" / "urban_rural")
    study(tmp_path / "studies" / "leaves")
    with pytest.raises(StudyError, match=r"urban_rurl: no such study; .* Did you mean urban_rural\?"):
        locate("urban_rurl", tmp_path)
    with pytest.raises(StudyError, match=r"zzz: no such study; .* Known here: leaves, urban_rural\."):
        locate("zzz", tmp_path)


def test_a_folder_without_a_study_is_told_how_to_become_one(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(StudyError, match=r"photos: this folder holds no study\.toml\..*tlstudy search --data photos"):
        locate("photos", tmp_path)


@pytest.mark.parametrize(
    "given", ["", "x" * 300, "x/" * 3000, "~no-such-user/x", "..", "/", "study.toml", "a\nb", "\udce9"]
)
def test_what_names_no_study_is_an_error_of_use(tmp_path: Path, given: str) -> None:
    inner = tmp_path / "empty" / "inner"
    inner.mkdir(parents=True)
    with pytest.raises(StudyError, match="no such study|holds no study.toml|found '', expected a study"):
        locate(given, inner)


@given(st.text(max_size=20).filter(lambda s: "\0" not in s and s != "demo"))
def test_any_text_names_no_study_in_an_empty_folder(tmp_path_factory: pytest.TempPathFactory, given: str) -> None:
    empty = tmp_path_factory.getbasetemp() / "deep" / "deep" / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    with pytest.raises(StudyError):
        locate(given, empty)


# ---- names and paths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("photos", "photos"),
        ("/a/My holiday, 2024", "My-holiday-2024"),
        ("photos.zip", "photos"),
        ("photos.ZIP", "photos"),
        ("photos.v2", "photos-v2"),
        ("Städte", "Städte"),
        ("...", "study"),
        ("/", "study"),
        ("[red]$(rm)\x1b", "red-rm"),
    ],
)
def test_a_study_is_named_by_its_photographs(data: str, name: str) -> None:
    assert name_for(Path(data)) == name


@given(st.text(min_size=1, max_size=30).filter(lambda s: "\0" not in s))
def test_every_name_is_one_folder_and_its_own_name(data: str) -> None:
    name = name_for(Path(data))
    assert name_for(Path(name)) == name
    assert Path(name).name == name
    assert name not in (".", "..")


PARTS = st.lists(st.sampled_from(["a", "b", "photos", "studies", "x y"]), min_size=1, max_size=6)


@given(PARTS, PARTS)
def test_a_written_path_leads_back_to_the_photographs(data: list[str], study: list[str]) -> None:
    photographs, folder = Path("/", *data), Path("/", *study)
    written = written_path(photographs, folder)
    assert os.path.normpath(folder / written) == str(photographs)


def test_photographs_in_or_beside_the_study_are_named_relatively() -> None:
    root = Path("/home/me/work/studies/x")
    assert written_path(root / "photos", root) == "photos"
    assert written_path(Path("/home/me/work/photos"), root) == "../../photos"
    assert written_path(Path("/data/photos"), root) == "/data/photos"


# ---- the demo ------------------------------------------------------------------------------------------------------


def test_the_demo_is_written_once(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "studies" / "demo")
    assert write_demo(folder)
    assert load(folder.spec) == demo_spec()
    folder.spec.write_text("# mine now\n")
    assert not write_demo(folder)
    assert folder.spec.read_text() == "# mine now\n"


def test_a_study_that_cannot_be_written_is_an_error_of_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"study\.toml: cannot be written"):
        studies.write_study(StudyFolder(tmp_path / "file"), Spec(), "")
