"""`tlstudy report` writes the page, and `--open` shows it or says where it is."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_programs import Tlstudy


def test_the_page_is_written_and_named(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    page = made() / "report" / "index.html"
    done = tlstudy("report")
    assert done.code == 0
    assert "The page: studies/made/report/index.html" in done.text
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("opens", [True, False, None])
def test_open_shows_the_page_or_says_where_it_is(
    tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: bool | None
) -> None:
    made()
    asked: list[str] = []

    def browse(url: str) -> bool:
        asked.append(url)
        if opens is None:
            raise webbrowser.Error("could not locate runnable browser")
        return opens

    monkeypatch.setattr(webbrowser, "open", browse)
    done = tlstudy("report", "--open", "--output", "here and there")
    page = tmp_path / "here and there" / "index.html"
    assert done.code == 0
    assert asked == [page.as_uri()] and "%20" in asked[0]
    assert ("No browser could be opened" in done.err) is not bool(opens)
    assert opens or str(page) in done.err.replace("\n", "")


def test_open_needs_the_page(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    made()
    done = tlstudy("report", "--open", "--format", "json")
    assert done.code == 2
    assert "--open shows the page" in done.err
