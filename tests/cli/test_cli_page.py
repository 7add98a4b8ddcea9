"""`tlstudy report` writes the page, and `--open` shows it or says where it is."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_programs import Tlstudy

from tuner.cli.show import _open


def test_the_page_is_written_named_and_opened(
    tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made()
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: asked.append(url) or True)
    done = tlstudy("report", "--open", "--output", "here and there")
    page = tmp_path / "here and there" / "index.html"
    assert done.code == 0
    assert "The page: here and there/index.html" in done.text
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert asked == [page.as_uri()] and "%20" in asked[0]
    assert "No browser could be opened" not in done.err


@pytest.mark.parametrize("error", [None, webbrowser.Error("could not locate runnable browser")])
def test_where_no_browser_opens_it_says_where_the_page_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception | None
) -> None:
    def browse(url: str) -> bool:
        if error is not None:
            raise error
        return False

    monkeypatch.setattr(webbrowser, "open", browse)
    _open(tmp_path / "index.html")
    said = capsys.readouterr().err
    assert "No browser could be opened" in said and str(tmp_path / "index.html") in said.replace("\n", "")


def test_open_needs_the_page(tlstudy: Tlstudy, made: Callable[..., Path]) -> None:
    made()
    done = tlstudy("report", "--open", "--format", "json")
    assert done.code == 2
    assert "--open shows the page" in done.err
