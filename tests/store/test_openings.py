"""The register of openings is read and written as a file, or done without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tuner.store import openings
from tuner.store.store import Store


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLSTUDY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    os.mkfifo(openings.register())
    with Store(tmp_path / "study.db") as store:
        with store.transaction():
            store.set_meta(test_seal="seal")
            openings.count_others(store)
        openings.record(store)
        assert store.meta("openings", {})["elsewhere"] == 0
