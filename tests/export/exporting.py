"""Exports of tiny studies, and what a process far from here reads out of files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.evidence.results import Results
from tuner.export.checking import Candidate, Exported
from tuner.export.formats import choose
from tuner.export.study import candidate
from tuner.store.folder import StudyFolder


@dataclass(frozen=True)
class Case:
    """One configuration of a study on its way to a file, and what the export said. results: as the study's store is."""

    results: Results
    candidate: Candidate
    exported: Exported = field(repr=False)


def model_of(folder: StudyFolder, target: Path, **options: Any) -> Candidate:
    """A study's model for `target`, by the name's ending, before it is saved."""
    return candidate(folder, Results.open(folder.database), target, kind=choose(target), **options)


def elsewhere(code: str, place: Path, *arguments: object) -> Any:
    """What a fresh process prints as JSON on its last line; this package cannot be imported there."""
    blocked = 'import sys\nsys.modules["tuner"] = None  # not even if it is installed\n'
    done = subprocess.run(
        [sys.executable, "-I", "-c", blocked + textwrap.dedent(code), *map(json.dumps, arguments)],
        cwd=place,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
