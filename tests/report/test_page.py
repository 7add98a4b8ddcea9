"""The page as text: what it says of every state of a study, in which order, and that names stay text."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import made_findings
import numpy as np
import pytest
from made_page import study_with_photographs
from made_study import (
    FINISHED,
    INTERRUPTED,
    MANY,
    NO_TRIAL_YET,
    SIX_CLASSES,
    THREE_CLASSES,
    UNTRAINED,
    Made,
    make_study,
)
from PIL import Image
from rich.console import Console

from tuner.evidence.results import Results
from tuner.report import gallery, page, plots, sections, style, tables
from tuner.report.verdict import told
from tuner.report.words import capitalised
from tuner.store.store import EpochRow, Store, TrialRow

VARIANTS = {
    "finished": FINISHED,
    "interrupted": INTERRUPTED,
    "none": NO_TRIAL_YET,
    "six": SIX_CLASSES,
    "three": THREE_CLASSES,
    "many": MANY,
    "untrained": UNTRAINED,
    "baseline only": Made(trials=10, outcome=None),
    "one depth": Made(space={"learning_rate": 1e-3, "unfrozen_layers": 10, "head_width": 0}),
}
SECTIONS = ("use", "verdict", "duel", "evidence", "configurations", "mattered", "time", "warnings", "again")
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    '"><b onclick=alert(3)>',
    "\u202egnp.exe",
)


class Elements(HTMLParser):
    """Every element with its attributes, and the text between."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, Path]:
    root = tmp_path_factory.mktemp("page") / "study"
    return study_with_photographs(root, FINISHED), root


@pytest.mark.parametrize("name", VARIANTS)
def test_every_state_has_its_page_with_the_sections_in_their_order(tmp_path: Path, name: str) -> None:
    results = Results.open(make_study(tmp_path / "study", VARIANTS[name]))
    made = Elements(page.page(results, tmp_path / "study"))
    sections = SECTIONS if results.recommendation() is not None else SECTIONS[1:]
    assert tuple(section["id"] for section in made.named("section")) == sections
    assert results.study.state in made.text
    said = re.sub(r"None( yet)?[.:]", "", made.text.replace("the loss became NaN", ""))
    assert not re.search(r"\b(NaN|nan|None|<NA>)\b", said)


def test_the_same_results_give_the_same_text(finished: tuple[Results, Path]) -> None:
    results, root = finished
    assert page.page(results, root) == page.page(results, root)


@pytest.mark.parametrize("kind", made_findings.KINDS)
def test_a_confirmed_study_says_what_to_use_and_its_verdict_first(finished: tuple[Results, Path], kind: str) -> None:
    results, root = finished
    found = made_findings.findings(results, kind)
    text = Elements(page.page(results, root, findings=found, importance=made_findings.importance())).text
    use = results.recommendation(found)
    assert use is not None
    verdict, rest = text.split("Winner against baseline", 1)
    heading, sentence = told(found)
    assert f"Verdict: {heading}" in " ".join(verdict.split()) and capitalised(sentence) in verdict
    assert f"{heading}: {sentence}".endswith(found.sentence), "all of it, and no word twice"
    assert verdict.index(use.sentences[0]) < verdict.index(heading)
    assert ("Counted on 200 images" in verdict) is (kind != "open")
    assert ("; 5 fresh seeds of the winner and 4 fresh seeds of the baseline, for" in verdict) is (kind != "open")
    assert ("Best configuration c001" in verdict) is (kind == "open")
    for said in ("all fresh seeds", "first fresh seed", "1 failed", "other baseline"):
        assert (said in rest) is (kind != "open")
    assert "Expected best validation accuracy" in rest and "search said" in rest
    assert all(line in rest for line in found.evidence)
    assert "61%" in rest.split("What mattered")[-1] and "p < 0.01" in rest


def test_a_study_without_findings_says_that_it_is_not_confirmed(finished: tuple[Results, Path]) -> None:
    text = Elements(page.page(*finished)).text
    assert "Verdict: Not confirmed" in text
    assert "Best configuration c001" in text and "cannot show a gain" in text
    assert "all fresh seeds" not in text


def test_commands_in_sentences_stand_as_code(tmp_path: Path) -> None:
    made = Made(warnings=("Run `tlstudy plan` and `<b>` first.",))
    text = page.page(study_with_photographs(tmp_path / "study", made), tmp_path / "study")
    assert "Run <code>tlstudy plan</code> and <code>&lt;b&gt;</code> first." in text


def test_the_star_of_a_bracket_is_at_the_best_epoch(finished: tuple[Results, Path]) -> None:
    results, _ = finished
    winner = results.winner()
    assert winner is not None
    stars = [mark for panel in plots.of_rungs(results) for mark in panel.marks if mark.shape == "star"]
    assert len(stars) == 1 and f"after {int(winner['best_epoch'])} epoch" in stars[0].tip
    assert stars[0].tip.startswith(winner["id"]) and "its best" in stars[0].tip


def test_logistic_regression_as_the_baseline_is_shown_like_any_other(tmp_path: Path) -> None:
    database = make_study(tmp_path)
    true = np.eye(2)[FINISHED.labels(FINISHED.validation)]
    chances = np.where(true, 0.99, 0.01).astype("<f4").tobytes()
    with Store(database) as store, store.transaction():
        store.add_configuration("log", "logistic", 0, {"unfrozen_layers": 0}, "pooled", 2049)
        store.begin_trial(TrialRow("log", "log", None, None, None, 0, 1, None), None)
        store.record_epoch("log", "log", EpochRow(1, 0.01, 1.0, 0.01, 1.0, 1.0, 92), chances, ())
        store.end_trial("log", "COMPLETED", 0.01, 1, None, 1.0)
    results = Results.open(database)
    baseline = results.baseline()
    assert baseline is not None and baseline["kind"] == "logistic"
    text = Elements(page.page(results, tmp_path, findings=results.findings(), importance=results.importance())).text
    assert "logistic regression on the pooled features" in text
    assert "baseline (log): 20/20 right" in text
    Console(file=io.StringIO()).print(tables.report(results, findings=results.findings()))


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("/home/me/.venv/bin/tlstudy search 'my photos'", "tlstudy search 'my photos'"),
        ("/x/tuner/__main__.py search", "tlstudy search"),
        ("tuner.Study.search", "tuner.Study.search"),
        ("tlstudy 'half", "tlstudy 'half"),
    ],
)
def test_commands_are_shown_as_typed_without_the_programs_place(tmp_path: Path, typed: str, shown: str) -> None:
    database = make_study(tmp_path)
    with Store(database) as store, store.transaction():
        store._db.execute("UPDATE sessions SET command = ?", (typed,))
    assert sections.again(Results.open(database)).commands == (shown,)


def test_names_stay_text_and_what_hides_is_written_out(tmp_path: Path) -> None:
    made = Made(classes=HOSTILE, warnings=(HOSTILE[0], "\x1b[2J"), reason=HOSTILE[1])
    text = page.page(study_with_photographs(tmp_path / "<script>alert(4)", made), tmp_path / "<script>alert(4)")
    elements = Elements(text)
    assert len(elements.named("script")) == 1
    assert not [a for _, a in elements.found for name in a if name.startswith("on")]
    assert all((a.get("src") or "").startswith("data:image/") for a in elements.named("img"))
    assert not set("\u202e\x1b") & set(text)
    assert HOSTILE[0] in elements.text and r"\u202egnp.exe" in elements.text


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(finished: tuple[Results, Path]) -> None:
    text = page.page(*finished)
    policy = next(
        m["content"] for m in Elements(text).named("meta") if m.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        inside = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inside) == 1
        digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [a for _, a in Elements(text).found if "style" in a], "the policy would ignore these"
    assert "http://" not in text and "https://" not in text


def test_winner_and_baseline_have_their_colours_everywhere() -> None:
    css = (page.HERE / "page.css").read_text()
    for name, colour in (("best", style.WINNER), ("base", style.BASELINE), ("reference", style.REFERENCE)):
        assert f"--{name}: {colour};" in css
    for name, colour in style.ON_DARK.items():
        assert f"--{name}: {colour};" in css


def test_drawn_figures_are_embedded_as_they_are(finished: tuple[Results, Path], tmp_path: Path) -> None:
    (tmp_path / "rate_by_depth.png").write_bytes(b"p" * 20)
    (tmp_path / "rate_by_depth.svg").write_bytes(b"s" * 10)
    path = page.write(*finished, tmp_path)
    assert path == tmp_path / "index.html"
    assert "data:image/svg+xml;base64," + base64.b64encode(b"s" * 10).decode() in path.read_text()


# ---- photographs ---------------------------------------------------------------------------------------------------


def test_a_photograph_is_shown_small_and_encoded_anew(finished: tuple[Results, Path]) -> None:
    results, root = finished
    found = gallery.gallery(results, root)
    assert found is not None and found.shown and not found.unread
    said = results.images()
    assert found.shown == int((~(said["best_right"] & said["baseline_right"])).sum())
    for title, pictures in found.groups.items():
        for picture in pictures:
            best, baseline = picture.predictions
            assert gallery.GROUPS[(best.right, baseline.right)] == title
            kind, _, data = picture.data.partition(",")
            assert kind == "data:image/jpeg;base64"
            with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                assert max(image.size) == gallery.SIDE and not image.getexif()


def test_a_photograph_that_is_gone_changed_or_outside_is_not_shown(tmp_path: Path) -> None:
    results = study_with_photographs(tmp_path, FINISHED, all_wrong=True)
    names = [name for name, _ in results.validation_files()]
    shown = gallery.gallery(results, tmp_path)
    assert shown is not None
    (tmp_path / "photos" / names[0]).unlink()
    (tmp_path / "photos" / names[1]).write_bytes((tmp_path / "photos" / names[2]).read_bytes())
    found = gallery.gallery(results, tmp_path)
    assert found is not None and found.shown == shown.shown
    assert found.unread == 2
    assert set(found.reasons) == {"cannot be read (No such file or directory)", "another file than the study saw"}
    assert "2 cannot be shown" in Elements(page.page(results, tmp_path)).text
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    moved = gallery.gallery(results, tmp_path)
    assert moved is not None and moved.unread == moved.shown
    assert moved.reasons == ("no longer where the study read it",)


def test_no_more_photographs_than_the_page_can_take(tmp_path: Path) -> None:
    results = study_with_photographs(tmp_path, FINISHED, all_wrong=True)
    found = gallery.gallery(results, tmp_path, most=3)
    assert found is not None
    assert found.shown == 3 and found.more > 0
    assert f"{found.more} more stand in photographs.csv" not in Elements(page.page(results, tmp_path)).text
