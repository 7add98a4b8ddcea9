"""The register of openings: one line an opening, in a file of its own that nobody else reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tuner.store import held_out, openings
from tuner.store.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A study that has opened its test set once."""
    monkeypatch.setenv("TLSTUDY_CACHE", str(tmp_path / "cache"))
    store = Store(tmp_path / "study.db")
    store.set_meta(test_seal="seal")
    openings.count_others(store)
    held_out.open_test(store, "2026-01-01T00:00:00+00:00", "c000", "b00")
    return store


def test_an_opening_leaves_one_line_for_its_owner_alone(store: Store) -> None:
    before = os.umask(0o022)
    try:
        openings.record(store)
        openings.record(store)
    finally:
        os.umask(before)
    assert len(openings.register().read_text().splitlines()) == 1
    modes = {oct(path.stat().st_mode & 0o777) for path in (openings.register(), openings.register().parent)}
    assert modes == {"0o600", "0o700"}


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_is_neither_read_nor_written(store: Store, tmp_path: Path, kind: str) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text('{"seal": "seal", "opened": "long ago", "study": "another"}\n')
    before = theirs.read_text()
    openings.register().parent.mkdir()
    if kind == "link":
        openings.register().symlink_to(theirs)
    else:
        os.mkfifo(openings.register())
    openings.count_others(store)
    openings.record(store)
    assert store.meta("openings")["elsewhere"] == 0 and theirs.read_text() == before
