"""`plan` takes what `search` takes, says what it will do, and leaves the folder as it was."""

from __future__ import annotations

import json
from pathlib import Path

import image_files
import pytest
from cli_programs import SMALL, Outcome, Tlstudy

from tuner.store.store import Store


def times(folder: Path) -> dict[Path, int]:
    """When each file was changed; but for the shared memory that every reader of SQLite's WAL uses."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if not path.name.endswith("-shm")}


def test_a_plan_of_photographs_writes_no_study(tlstudy: Tlstudy, tmp_path: Path) -> None:
    image_files.folder(tmp_path / "photos", train=4, val=3)
    before = sorted(tmp_path.rglob("*"))
    done = tlstudy("plan", "--data", "photos", *SMALL)
    assert done.code == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert done.out.startswith("Study studies/photos (new; a search writes it).\n")
    for said in ("14 photographs: 8 train, 6 val.", "What is trained", "Hyperband's brackets", "in all", "Memory at"):
        assert said in done.text
    assert max(map(len, done.out.splitlines())) <= 100


def test_the_plan_as_data_is_what_the_search_did(
    tlstudy: Tlstudy, finished_work: tuple[Path, Outcome], tmp_path: Path
) -> None:
    image_files.folder(tmp_path / "photos", train=4, val=3)
    done = tlstudy("plan", "--data", "photos", *SMALL, "--no-confirm", "--format", "json")
    assert done.code == 0 and done.err.startswith("Study studies/photos")
    found = json.loads(done.out)
    with Store(finished_work[0] / "studies" / "photos" / "study.db", readonly=True) as store:
        query = "SELECT kind, COUNT(*) FROM configurations WHERE kind <> 'seed' GROUP BY kind"
        assert {k["name"]: k["configurations"] for k in found["kinds"]} == {r[0]: r[1] for r in store.rows(query)}
    assert found["photographs"] == {"train": 8, "val": 6, "test": 0}
    assert found["estimate"]["total"] == pytest.approx(sum(found["estimate"]["phases"].values()))
    assert not found["finished"]


def test_a_finished_study_has_nothing_left(tlstudy: Tlstudy, work: Path) -> None:
    before = times(work)
    done = tlstudy("plan", "photos", cwd=work)
    assert done.code == 0
    assert "Nothing is left to train: 0 s." in done.text
    assert times(work) == before


def test_the_demo_is_planned_before_it_is_written(
    tlstudy: Tlstudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    smaller = ["--image-size", "32", "--max-epochs", "1", "--unfrozen-layers", "0", "--no-confirm"]
    done = tlstudy("plan", "demo", *smaller)
    assert done.code == 0
    assert not any(tmp_path.rglob("*"))
    assert "236 photographs: 96 train, 40 val, 100 test." in done.text
    assert "ImageNet's weights are not in Keras's cache: a search fetches them first (95 MB)" in done.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["askd"], "askd: no such study"),
        (["--data", "nowhere"], "nowhere: no such folder or .zip"),
        (["--data", "photos", "--factor", "1"], "search.factor: found 1, expected a whole number from 2 to 100"),
        (["--data", "photos", "--weights", "nofile.h5"], "weights file nofile.h5 was not found"),
        (["--data", "photos", "--unfrozen-layers", "0,x"], "--unfrozen-layers: found '0,x'"),
        (["--data", "photos", "--set", "search.sed=3"], "--set: unknown key search.sed; did you mean seed"),
    ],
)
def test_wrong_use_is_the_message_of_a_search(
    tlstudy: Tlstudy, tmp_path: Path, arguments: list[str], message: str
) -> None:
    image_files.folder(tmp_path / "photos", train=3, val=2)
    before = sorted(tmp_path.rglob("*"))
    done = tlstudy("plan", *arguments)
    assert done.code == 2
    assert message in done.text
    assert sorted(tmp_path.rglob("*")) == before
