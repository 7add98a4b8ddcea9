"""The tutorial runs from top to bottom in a folder that holds nothing but the package and the page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tuner.images import demo

nbformat = pytest.importorskip("nbformat", reason="the tutorial needs nbformat: pip install -e '.[dev]'")
nbclient = pytest.importorskip("nbclient", reason="the tutorial needs nbclient: pip install -e '.[dev]'")
pytest.importorskip("ipykernel", reason="the tutorial needs ipykernel: pip install -e '.[dev]'")

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "studies" / "tutorial.ipynb"


@pytest.fixture(scope="module")
def page() -> Any:
    return nbformat.read(PAGE, as_version=4)


def text_of(cell: Any) -> str:
    """What a cell printed and showed as text."""
    found = []
    for output in cell.get("outputs", []):
        found.append(output.get("text", "") or output.get("data", {}).get("text/html", ""))
    return "".join(found)


def test_the_page_is_kept_without_outputs(page: Any) -> None:
    nbformat.validate(page)
    for cell in page.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.source
    assert set(page.metadata) <= {"kernelspec", "language_info"}


def test_the_first_code_cell_is_for_colab_and_leaves_other_machines_alone(page: Any) -> None:
    first = next(cell for cell in page.cells if cell.cell_type == "code").source
    assert 'COLAB = "google.colab" in sys.modules' in first
    guarded = first.split("if COLAB:")[1]
    assert "drive.mount(" in guarded and "git+" in guarded
    assert "google" not in first.split("if COLAB:")[0].replace('"google.colab" in sys.modules', "")


def test_the_tutorial_runs(page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "tuner", checkout / "tuner", ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "studies").mkdir()
    for name, value in {
        "TLSTUDY_TUTORIAL": "small",
        "PYTHONPATH": str(checkout),
        "HOME": str(tmp_path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(tmp_path / "matplotlib")),
    }.items():
        monkeypatch.setenv(name, value)
    run = nbclient.NotebookClient(
        page, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(checkout / "studies")}}
    ).execute()
    said = {cell.source: text_of(cell) for cell in run.cells if cell.cell_type == "code"}
    shown = "\n".join(said.values())
    number = {split: len(demo.CLASSES) * each for split, each in demo.NUMBERS.items()}
    assert f"{sum(number.values())} photographs; countryside, town" in shown
    assert "No pretraining" in shown, "the page says what random weights mean"
    assert "plan: " in shown and "trial " in shown
    assert f"checked on the {number['val']} validation photographs" in shown
    last = [cell for cell in run.cells if cell.cell_type == "code"][-1]
    assert "'countryside': " in text_of(last) and "'town': " in text_of(last)
    pictures = [o for cell in run.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) == 4, "a sheet of photographs, two figures of the report, one of panels"
    study = checkout / "studies" / "tutorial" / "study"
    assert (study / "study.toml").is_file() and (study / "study.db").is_file()
    assert {p.name for p in (checkout / "studies").iterdir()} == {"tutorial"}, "all it writes is in one folder"
