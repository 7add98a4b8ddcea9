"""What else is written for the user: study.toml by `init`, data and figures by `report`. Without Keras.

Each is whole or not there, what stood there before stays until the new one is whole, and the command run again gives
what it gives undisturbed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from made_study import FINISHED, make_study

from tuner.artifacts.files import sha256_of
from tuner.cli import show
from tuner.evidence.results import Results
from tuner.report import figures
from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.locate import write_study

DRAWN = {"confusion": figures.confusion}


def prepare(made: Path) -> None:
    """The finished study that the report is of, not in the folder whose writes are failed. The first report is here:
    the processes that fork from this one have imported then what drawing needs.
    """
    make_study(made, FINISHED)
    with tempfile.TemporaryDirectory() as first:
        run(Path(first), made)


def run(root: Path, made: Path) -> None:
    """`init`'s file, then the data and one figure of a report on the study in `made`."""
    figures.FIGURES = DRAWN
    folder = StudyFolder(root)
    write_study(folder, Spec(), "a heading")
    show._draw(Results.open(made / "study.db"), folder.report)


def state(root: Path) -> dict[str, Any]:
    """Digests of every file there, so that one left behind shows."""
    return {str(p.relative_to(root)): sha256_of(p) for p in sorted(root.rglob("*")) if p.is_file()}
