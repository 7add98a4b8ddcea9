"""Made-up studies with real photographs beside them, for the page's tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import image_files
from made_study import Made, make_study

from tuner.evidence.results import Results
from tuner.store.store import Store


def study_with_photographs(root: Path, made: Made, *, all_wrong: bool = False) -> Results:
    """A made study in `root` whose validation photographs lie in root/photos, with the digests that the store has.

    `all_wrong`: the true classes of two are exchanged, so that most photographs are got wrong.
    """
    database = make_study(root, made)
    with Store(database) as store, store.transaction():
        for row in store.rows("SELECT number, path FROM images WHERE split = 'val'"):
            file = image_files.image_file(root / "photos" / row["path"], row["number"], 320, 240, quality=90)
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            store._db.execute("UPDATE images SET sha256 = ? WHERE number = ?", (digest, row["number"]))
        if all_wrong:
            store.set_meta(val_labels=[1 - label for label in store.meta("val_labels")])
    return Results.open(database)
