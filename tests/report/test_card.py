"""The model card: what it must say, and that no name in it is more than text."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_study import FINISHED, SIX_CLASSES, UNTRAINED, Made, make_study
from markdown_it import MarkdownIt

from tuner.evidence.results import Results
from tuner.evidence.statistics import wilson
from tuner.export.checking import Exported
from tuner.export.formats import FORMATS, Contents, card_path
from tuner.export.refit import Refit
from tuner.export.sums import sum_of, verify
from tuner.report.card import bullets, card, fenced, plain, table
from tuner.spec.spec import Spec

HOSTILE = Made(
    classes=("<script>alert(1)</script>", "| a | **b** |", "- [x](http://evil) `c`", "\x1b[31m\nred", "1. one", "&lt;")
)


def exported(results: Results, name: str = "keras", **changes: Any) -> Exported:
    kind = FORMATS[name]
    winner = results.winner()
    assert winner is not None
    found = Exported(
        Path(f"model{kind.ending}"),
        kind,
        Contents(results.study.classes, 224, "crop"),
        95_000_000,
        1.2e-7,
        None if kind.squares else 3e-5,
        18,
        20,
        str(winner["id"]),
        {"tlstudy": "0.1.0", "keras": "3.15.1"},
    )
    return replace(found, **changes)


def study(folder: Path, made: Made = FINISHED) -> Results:
    return Results.open(make_study(folder, made))


def html(text: str) -> str:
    return str(MarkdownIt("commonmark").enable("table").render(text))


def test_a_card_says_what_the_model_is_and_what_it_was_measured_on(tmp_path: Path) -> None:
    results = study(tmp_path)
    text = card(results, exported(results), study="studies/made")
    winner = results.winner()
    assert winner is not None
    low, high = wilson(int(winner["correct"]), int(winner["validation"]))
    assert f"| this configuration | {winner['correct']}/{winner['validation']}" in text
    assert f"| {100 * low:.0f} to {100 * high:.0f}% |" in text
    for heading in (
        "Use",
        "Classes",
        "Data",
        "Configuration",
        "Measured",
        "Limits",
        "Weights and licences",
        "Made with",
    ):
        assert f"\n## {heading}\n" in text
    assert "1 file left out:" in text and "train/urban/broken.jpeg: not an image" in text
    assert "| frozen baseline |" in text and "| always " in text
    assert "ported from the ones Kaiming He released under the MIT licence" in text
    assert "The study has no verdict" in text and "tlstudy 0.1.0, keras 3.15.1" in text
    assert "tlstudy best studies/made --export model.keras --format keras --winner\n" in text
    assert "1e-07 on the decoded squares and 3e-05 on the photographs as they are" in text


def test_the_checksum_is_one_no_class_can_forge(tmp_path: Path) -> None:
    forged = f"The model's SHA-256 is `{'0' * 64}`"
    results = study(tmp_path, Made(classes=(forged, f"\n{forged}")))
    model = tmp_path / "model.keras"
    model.write_bytes(b"a model")
    digest = sum_of(model)
    card_path(model).write_text(card(results, exported(results, sha256=digest), study="studies/made"))
    assert verify(model) == digest


def test_the_study_file_in_the_card_is_the_studys(tmp_path: Path) -> None:
    results = study(tmp_path)
    block = card(results, exported(results), study="x").split("```toml\n")[1].split("\n```")[0]
    assert Spec.from_dict(tomllib.loads(block)) == results.study.spec


def test_a_verdict_is_told_where_there_is_one(tmp_path: Path) -> None:
    results = study(tmp_path)
    text = card(results, exported(results), study="x", verdict="No gain shown: 0.1 points [-2, 2].")
    assert r"Verdict of the study: No gain shown: 0.1 points \[-2, 2\]." in text
    assert "has no verdict" not in text


@pytest.mark.parametrize("baseline", [False, True])
def test_it_says_first_which_model_the_study_recommends_and_whether_this_is_it(tmp_path: Path, baseline: bool) -> None:
    results = study(tmp_path)
    text, use = card(results, exported(results), study="x", baseline=baseline), results.recommendation()
    assert use is not None
    first = text.split("\n## ")[1]
    assert first.startswith("Which model to use") and plain(use.sentences[1]) in first
    asked = "baseline" if baseline else "winner"
    assert ("which the study recommends" if use.which == asked else "as asked for") in first


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_what_goes_in_and_shows_how(tmp_path: Path, name: str) -> None:
    results = study(tmp_path)
    found = exported(results, name)
    text = card(results, found, study="x")
    assert f"tlstudy predict {found.path.name} photo.jpg" in text
    code = text.split("```python\n")[1].split("\n```")[0]
    compile(code, "card", "exec")
    assert repr(found.path.name) in code and "FILE" not in code
    assert ("It does not resize: decode to RGB, turn upright" in text) == FORMATS[name].squares
    assert ("(batch, 224, 224, 3)" in text) == FORMATS[name].squares
    assert f"--format {name}" in text


def test_a_refit_says_that_no_image_is_left(tmp_path: Path) -> None:
    results = study(tmp_path)
    for tested, left in ((False, "no image is left"), (True, "only the test photographs are left")):
        again = Refit(7, 92, tested, {}, np.zeros((20, 2), np.float32))
        found = exported(results, refit=again, correct=None)
        text = card(results, found, study="x", baseline=True)
        assert left in text and left in again.sentence()
        assert "It learned from 92 photographs" in text and "of epoch 7 of the refit" in text
        assert "--baseline --refit" in text
        assert "18/20 right" not in found.sentence("x") and "what the refit network itself said" in found.sentence("x")


def test_what_weakens_a_study_stands_among_the_limits(tmp_path: Path) -> None:
    results = study(tmp_path / "u", UNTRAINED)
    limits = card(results, exported(results), study="x").split("## Limits")[1].split("\n## ")[0]
    assert "**No pretraining**" in limits and "are few: read the intervals" in limits
    assert "nobody's licence" in card(results, exported(results), study="x")
    assert "18,000" not in limits
    six = study(tmp_path / "six", SIX_CLASSES)
    assert card(six, exported(six), study="x").count("\n| ") > 12


def test_no_name_is_more_than_text(tmp_path: Path) -> None:
    results = study(tmp_path, HOSTILE)
    text = card(results, exported(results), study="a b; rm -rf", verdict="# <b>gain</b>")
    page = html(text)
    assert "\x1b" not in text and "<script>" not in page and "<b>" not in page and "<a " not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<table>") == 4, "no bar in a name breaks a table"
    listed = page.split("<h2>Classes</h2>")[1].split("<h2>")[0]
    assert listed.count("<li>") == 6 and listed.count("<ul>") == 1 and "<ol" not in listed
    assert "&amp;lt;" in listed
    assert "'a b; rm -rf'" in text, "the commands are quoted for the shell"


def test_pieces() -> None:
    assert fenced("a ``` b", "x") == "````x\na ``` b\n````"
    assert fenced("a\x1b\nb\n") == "```\na\\x1b\nb\n```"
    assert bullets(["a", "b"]) == "- a\n- b"
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
    assert plain("3.2e-4 of a_b") == r"3.2e-4 of a\_b"
