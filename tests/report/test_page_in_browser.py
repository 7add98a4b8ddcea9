"""The page in a real headless Chromium: it works, fetches nothing, fits a phone, prints whole, axe is content."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import browser as browsers
import made_findings
import pytest
from browser import Browser
from made_page import study_with_photographs
from made_study import FINISHED, MANY, Made, make_study

from tuner.evidence.results import Results
from tuner.report import figures, page

pytestmark = pytest.mark.skipif(
    browsers.found() is None and not os.environ.get("CI"), reason="no Chromium here: apt-get install chromium"
)

NAME = "<script>alert(1)</script>"
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsers.browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of 100 trials with findings, all figures and as many photographs as are ever shown."""
    root = tmp_path_factory.mktemp("large")
    results = study_with_photographs(root, MANY, all_wrong=True)
    assert len(results.trials()) == 100
    figures.draw_all(results, root / "report")
    found = made_findings.findings(results)
    return page.write(results, root, root / "report", findings=found, importance=made_findings.importance())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small unconfirmed study whose classes and warnings would run if they were not text."""
    root = tmp_path_factory.mktemp("hostile")
    made = Made(classes=(NAME, "</script><img src=x onerror=alert(2)>"), warnings=(NAME,))
    return page.write(study_with_photographs(root, made), root, root / "report")


def column(chromium: Browser, number: int) -> list[float | None]:
    """The values that one column of the visible configurations sorts by, from the top."""
    rows = "[...document.querySelectorAll('#trials tbody tr')].filter(r => r.offsetParent)"
    values: list[float | None] = chromium.run(
        f"{rows}.map(r => r.cells[{number}].dataset.sort).map(v => v === '' ? null : Number(v))"
    )
    return values


def click(chromium: Browser, selector: str) -> None:
    chromium.run(f"document.querySelector({selector!r}).click()")


# ---- nothing from outside ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_error_no_request_no_sideways_scroll(chromium: Browser, large: Path, width: int, dark: bool) -> None:
    chromium.open(large, width, dark=dark)
    assert chromium.errors == []
    assert [url for url in chromium.requests if not url.startswith("data:")] == [large.absolute().as_uri()]
    assert chromium.run("document.documentElement.scrollWidth") == width
    background = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(18, 22, 27)" if dark else "rgb(251, 250, 248)")


def test_two_more_hyperparameters_fit_the_frame_of_the_table(chromium: Browser, tmp_path: Path) -> None:
    made = replace(FINISHED, space={"dropout": [0.0, 0.3], "augmentation": ["none", "light"]})
    results = Results.open(make_study(tmp_path, made))
    chromium.open(page.write(results, tmp_path, tmp_path / "report"), 1280)
    assert chromium.run("document.querySelectorAll('#trials thead th').length") == 15
    frame = "document.querySelector('#trials').parentElement"
    assert chromium.run(f"{frame}.scrollWidth <= {frame}.clientWidth")


def test_a_large_study_stays_under_three_megabytes(chromium: Browser, large: Path) -> None:
    chromium.open(large)
    assert chromium.run("document.querySelectorAll('.gallery img').length") >= 92
    assert large.stat().st_size < 3_000_000
    broken = "[...document.images].map(i => (i.loading = 'eager', i)).filter(i => i.complete && !i.naturalWidth).length"
    assert chromium.run(broken) == 0


def test_a_class_called_script_is_text(chromium: Browser, hostile: Path) -> None:
    chromium.open(hostile)
    assert chromium.errors == []
    assert chromium.run("document.scripts.length") == 1
    assert chromium.run("document.querySelectorAll('img[src=x], [onerror]').length") == 0
    assert NAME in chromium.run("document.body.innerText")
    assert chromium.run("[...document.querySelectorAll('.matrix tbody th')][0].textContent") == NAME


def test_the_policy_holds(chromium: Browser, hostile: Path) -> None:
    chromium.open(hostile)
    chromium.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    chromium.run(
        "document.body.append(Object.assign(document.createElement('img'), {src: 'https://example.invalid/x'}))"
    )
    assert chromium.run("window.ran === undefined")
    assert len([error for error in chromium.errors if "Content Security Policy" in error]) == 2


# ---- what it does --------------------------------------------------------------------------------------------------


def test_the_table_sorts_both_ways_and_what_is_missing_stays_last(chromium: Browser, large: Path) -> None:
    chromium.open(large)
    click(chromium, ".shown button")
    headers: list[str] = chromium.run("[...document.querySelectorAll('#trials th button')].map(b => b.textContent)")
    for name in ("loss", "rate", "configuration", "bracket"):
        number = headers.index(name)
        head = f"#trials thead th:nth-child({number + 1})"
        if name == "configuration":
            click(chromium, f"{head} button")
        for order in ("ascending", "descending"):
            if chromium.run(f"document.querySelector({head!r}).getAttribute('aria-sort')") != order:
                click(chromium, f"{head} button")
            assert chromium.run(f"document.querySelector({head!r}).getAttribute('aria-sort')") == order
            values = column(chromium, number)
            there = [v for v in values if v is not None]
            assert there == sorted(there, reverse=order == "descending") and len(there) > 50
            assert all(v is None for v in values[len(there) :])
        assert chromium.run("document.querySelectorAll('#trials [aria-sort=none]').length") == len(headers) - 1


def test_the_depth_filter_shows_one_depth_and_keeps_baseline_and_reference(chromium: Browser, large: Path) -> None:
    chromium.open(large)
    assert len(column(chromium, 0)) == 15 + 2
    click(chromium, ".filter button[data-depth='20']")
    shown = chromium.run(
        "[...document.querySelectorAll('#trials tbody tr')].filter(r => r.offsetParent)"
        ".map(r => [r.className, r.dataset.depth])"
    )
    assert {depth for css, depth in shown if "search" in css or "best" in css} == {"20"}
    assert sum(css in ("baseline", "reference") for css, _ in shown) == 2
    pressed = chromium.run("[...document.querySelectorAll('.filter [aria-pressed=true]')].map(b => b.dataset.depth)")
    assert pressed == ["20", "20"], "both copies of the filter agree"
    assert chromium.run("document.querySelectorAll('svg [data-depth=\"20\"].dimmed').length") == 0
    assert chromium.run("document.querySelectorAll('svg [data-depth=\"10\"]:not(.dimmed)').length") == 0
    assert f"{len(shown) - 2} of {len(shown) - 2} configurations with 20" in chromium.run(
        "document.querySelector('.shown').textContent"
    )
    click(chromium, ".filter button[data-depth='']")
    assert len(column(chromium, 0)) == 15 + 2


def test_points_tell_their_values_on_hover_and_by_keyboard(chromium: Browser, large: Path) -> None:
    chromium.open(large)
    star = "document.querySelector('.panel .mark.star.best')"
    chromium.run(f"{star}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    chromium.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # scrolling hides it
    x, y = chromium.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({star}.getBoundingClientRect())")
    chromium.hover(x, y)
    tip = "document.getElementById('tip')"
    assert not chromium.run(f"{tip}.hidden")
    assert "the best" in chromium.run(f"{tip}.textContent")
    chromium.press("Escape")
    assert chromium.run(f"{tip}.hidden")
    chromium.run("document.querySelector('.panel svg [tabindex=\"0\"]').focus({preventScroll: true})")
    first = chromium.run("document.activeElement.getAttribute('aria-label')")
    chromium.press("ArrowRight")
    second = chromium.run("document.activeElement.getAttribute('aria-label')")
    assert first and second and first != second
    assert chromium.run(f"{tip}.textContent").startswith(second.split(" · ")[0])
    assert chromium.run("document.querySelectorAll('.panel svg').length") == chromium.run(
        "document.querySelectorAll('.panel svg [tabindex=\"0\"]').length"
    ), "one stop of the tab key a plot"


# ---- readers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("which", "width"), [("large", 1280), ("hostile", 390)])
def test_axe_finds_nothing(
    chromium: Browser, request: pytest.FixtureRequest, which: str, width: int, dark: bool
) -> None:
    spec = importlib.util.find_spec("axe_core_python")
    assert spec is not None and spec.origin is not None
    chromium.open(request.getfixturevalue(which), width, dark=dark)
    chromium.run((Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8") + "; 0")
    found = chromium.run(
        "axe.run({preload: false, resultTypes: ['violations']}).then(r => "
        "r.violations.map(v => [v.id, v.help, v.nodes.length, v.nodes[0].html, v.nodes[0].failureSummary]))"
    )
    assert found == []


def test_nothing_that_is_needed_is_missing_on_paper(chromium: Browser, large: Path, tmp_path: Path) -> None:
    chromium.open(large, dark=True)
    chromium.media(dark=True, media="print")
    assert chromium.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    missing = (
        "[...document.querySelectorAll('section, h2, h3, p, table, tr, main svg, img, pre, li')]"
        ".filter(e => !e.closest('.tools, .shown') && !e.getClientRects().length).map(e => e.outerHTML.slice(0, 80))"
    )
    assert chromium.run(missing) == []
    whole = "[...document.querySelectorAll('pre, .scroll')].every(e => getComputedStyle(e).overflow === 'visible')"
    assert chromium.run(whole), "what scrolls on a screen would be cut on paper"
    chromium.paper(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
