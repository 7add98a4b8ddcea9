"""Makes the golden study of today's format, for later versions to read: a tiny real search and what it says.

    python tests/golden/make.py FOLDER

Written once for each format, by the program that first had it, and never changed afterwards.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from search.studies import make, search, spec  # noqa: E402

from tuner.evidence.results import Results  # noqa: E402
from tuner.store.locate import write_study  # noqa: E402


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = make(Path(scratch) / "study")
        question = spec(space__unfrozen_layers=0, space__dropout=0.0, search__max_epochs=2, search__factor=2)
        write_study(folder, question, "The golden study.")
        search(folder, question)
        shutil.copytree(folder.checkpoints, target / "checkpoints", dirs_exist_ok=True)
        shutil.copy(folder.spec, target)
        database = sqlite3.connect(folder.database)
        database.execute("UPDATE sessions SET host = 'golden', command = 'tlstudy search'")
        database.commit()
        database.execute(f"VACUUM INTO '{target / 'study.db'}'")
        database.close()
    (target / "report.json").write_text(Results.open(target / "study.db").to_json() + "\n")


if __name__ == "__main__":
    main()
