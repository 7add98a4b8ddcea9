"""Cuts the power after every write of a real run, lets it go on, and compares with one that nothing disturbed. Linux.

    python tests/faults/power.py [--subject search,cache,documents,export,fresh] [--cuts 0] [--points 0] [--jobs 2]

What a process writes, syncs, renames and removes is recorded once (`recorder.c`, SQLite's own calls among them). For
every prefix of the record the disk is laid out as a power cut may leave it, in each of the `disk.VARIANTS`; what comes
out alike is looked at once. It must hold what had been promised by then, whole, and the next process must go on from it
to the same result. Prints, as JSON, states (cuts times variants), those that differ, from how many it went on, and what
was wrong; ends with status 1 if anything was. `--points`: it goes on from so many of a subject only; looked at are all.
 Subjects "without" a
safeguard have it taken away: they must not pass.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from faults import caching, costless, disk, documents  # noqa: E402
from faults.every_write import DONE, LAST, child, searched, spread  # noqa: E402
from image_files import folder as image_folder  # noqa: E402

from tuner.artifacts import entries  # noqa: E402
from tuner.artifacts.files import sha256_of, write_atomically  # noqa: E402
from tuner.errors import NoResultsError, TlstudyError  # noqa: E402
from tuner.export import saving  # noqa: E402
from tuner.search import checkpoints  # noqa: E402
from tuner.store import openings  # noqa: E402
from tuner.store.folder import StudyFolder  # noqa: E402
from tuner.store.store import Saved, Store  # noqa: E402

BEGIN = "begin "
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Subject:
    """`run` does it all in a folder, telling what is on the disk by then. `look`: what is wrong with what a cut left,
    by what had been told last, or None. `go_on`: the next process; `state` is what must be the same after it.
    """

    run: Callable[[Path, Tell], object]
    look: Callable[[Path, str], str | None]
    go_on: Callable[[Path], object]
    state: Callable[[Path], Any]


# ---- a search ----

GROWING = ("trials", "epochs", "held_out", "sessions", "meta")


def search(root: Path, tell: Tell, question: Any = costless.QUESTION) -> None:
    """Tells after each commit how many rows there are."""

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            done = super().execute(sql, *values)
            if sql == "COMMIT":
                tell(json.dumps(super().execute(ROWS).fetchone()[:]))
            return done

    real = sqlite3.connect
    sqlite3.connect = partial(real, factory=Connection)  # type: ignore[assignment]
    try:
        go_on_searching(root, question)
    finally:
        sqlite3.connect = real
    tell("done")


ROWS = f"SELECT {', '.join(f'(SELECT COUNT(*) FROM {table})' for table in GROWING)}"


def go_on_searching(root: Path, question: Any = costless.QUESTION) -> None:
    os.environ["TLSTUDY_CACHE"] = str(root / "cache")
    costless.run(root / "study", question=question)


def rows_and_files(root: Path, told: str) -> str | None:
    """Every commit that had returned is there, and every file that a row names, whole."""
    folder = StudyFolder(root / "study")
    try:
        with Store(folder.database, readonly=True) as store:
            found = [list(row) for row in store.rows(ROWS)]
            known = checkpoints.Checkpoints(folder.checkpoints)
            saved = [Saved(**row) for row in store.rows("SELECT role, epoch, file, bytes, sha256 FROM checkpoints")]
    except NoResultsError:
        return f"no results, but {told} had been recorded" if told else None
    except (TlstudyError, sqlite3.Error) as error:
        return f"does not open: {error}"
    if missing := [one.file for one in saved if not known.whole(one)]:
        return f"a row names {missing[0]}, which is not whole"
    if told == "done":
        os.environ["TLSTUDY_CACHE"] = str(root / "cache")
        return None if openings.register().is_file() else "the opening of the test set is not in the register"
    wanted = json.loads(told) if told else []
    fewer = [table for table, has, had in zip(GROWING, found[0], wanted, strict=False) if has < had]
    return f"fewer {fewer[0]} than had been recorded" if fewer else None


# ---- the cache ----


def cache(root: Path, tell: Tell) -> None:
    caching.run(root, photos())


def cached(root: Path) -> Any:
    return json.loads((root / "state.json").read_text())


def go_on_caching(root: Path) -> None:
    """Believes all that it may: a file has the time and the inode that its manifest says, as after a real cut."""

    def stamp(path: Path | str) -> list[int]:
        found = real(path)
        manifest = Path(path).with_name(entries._MANIFEST)
        try:
            told = json.loads(manifest.read_bytes())["body"]["files"][os.path.basename(path)]["stamp"]
        except (OSError, ValueError, KeyError):
            return found
        return [found[0], *told[1:]]

    real, entries._stamp = entries._stamp, stamp
    try:
        (root / "state.json").write_text(json.dumps(caching.run(root, photos())))
    finally:
        entries._stamp = real


# ---- study.toml and the report ----

OLD = b"what stood there before"


def document(root: Path, tell: Tell) -> None:
    """Over older files."""
    documents.run(root / "first", made())
    for path in sorted((root / "first").rglob("*")):
        if path.is_file():
            write_atomically(root / "study" / path.relative_to(root / "first"), lambda file: file.write(OLD))
    tell("old")
    documents.run(root / "study", made())
    tell("new")


def documents_there(root: Path, told: str) -> str | None:
    """Each is the older or the new one, whole."""
    files = documents.state(made().parent / "expected" / "documents" / "first")
    for name, new in files.items():
        path = root / "study" / name
        found = sha256_of(path) if path.is_file() else None
        allowed = {"": [None, new, digest(OLD)], "old": [digest(OLD), new], "new": [new]}[told]
        if found not in allowed:
            return f"{name}: {'missing' if found is None else 'neither the older nor the new one'} ({told})"
    return None


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---- an exported model ----

TARGETS = {"model.keras": {"": b"%d" * 3000}, "folder": {"saved_model.pb": b"%d" * 3000, "variables/data": b"%d" * 900}}


def export(root: Path, tell: Tell) -> None:
    """A file and a folder of stand-ins, each twice: the second time it replaces the first."""
    for number in (1, 2):
        for name in TARGETS:
            put(root, name, number)
            tell(f"{name} {number}")


def put(root: Path, name: str, number: int) -> None:
    target = root / "models" / name
    with saving.beside(target) as beside:
        (beside / "new").mkdir()
        for file, data in TARGETS[name].items():
            path = beside / "new" / name / file if file else beside / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data % ((number,) * data.count(b"%d")))
        saving.put_in_place(beside / "new" / name, target)


def models_there(root: Path, told: str) -> str | None:
    """Each is the first or the second one, whole, and no older than was told."""
    order = ["", *(f"{name} {number}" for number in (1, 2) for name in TARGETS)]
    for name, files in TARGETS.items():
        least = max((n for n in (1, 2) if order.index(f"{name} {n}") <= order.index(told)), default=0)
        target = root / "models" / name
        if not target.exists():
            if least:
                return f"{name}: missing, after {told}"
            continue
        found = {
            "" if target.is_file() else path.relative_to(target).as_posix(): path.read_bytes()
            for path in [target, *target.rglob("*")]
            if path.is_file()
        }
        wanted = [
            {file: data % ((n,) * data.count(b"%d")) for file, data in files.items()} for n in (1, 2) if n >= least
        ]
        if found not in wanted:
            return f"{name}: not whole, after {told}"
    return None


def go_on_exporting(root: Path) -> None:
    for name in TARGETS:
        put(root, name, 2)


def exported(root: Path) -> Any:
    return {name: models_there(root, f"{list(TARGETS)[-1]} 2") for name in TARGETS}


# ---- search --fresh ----


def fresh(root: Path, tell: Tell) -> None:
    """A study with a journal, as a killed search leaves it, is moved aside."""
    folder = StudyFolder(root / "study")
    os.environ["TLSTUDY_CACHE"] = str(root / "cache")
    costless.run(folder.root, confirm=False)
    kept = sqlite3.connect(folder.database, isolation_level=None)
    kept.execute("PRAGMA synchronous = FULL")
    kept.execute("INSERT INTO meta VALUES ('last', '1')")
    tell("made")
    folder.move_results_aside()
    tell("moved")


def results_somewhere(root: Path, told: str) -> str | None:
    """All rows, the last one too, are in the study or where it was moved to; in both while it is moved."""
    if not told:
        return None
    places = [root / "study", *(root / "study" / "previous").glob("*")]
    found = [place for place in places if (place / "study.db").is_file() and last(place / "study.db")]
    if not found:
        return f"the results are nowhere, after {told}"
    return "not moved, after it was said" if told == "moved" and found[0] == places[0] else None


def last(database: Path) -> bool:
    with Store(database, readonly=True) as store:
        return store.meta("last") == 1


def start_afresh(root: Path) -> None:
    folder = StudyFolder(root / "study")
    folder.move_results_aside()
    os.environ["TLSTUDY_CACHE"] = str(root / "cache")
    costless.run(folder.root, confirm=False)


def without_syncs(root: Path, tell: Tell) -> None:
    """Files and folders are not synced by this program; SQLite's are."""
    os.fsync = lambda handle: None  # type: ignore[assignment]
    search(root, tell)


def nothing(root: Path, told: str) -> None:
    return None


def study_in(root: Path) -> Any:
    return searched(root / "study")


SUBJECTS = {
    "search": Subject(search, rows_and_files, go_on_searching, study_in),
    "search by last epochs": Subject(
        partial(search, question=LAST), rows_and_files, partial(go_on_searching, question=LAST), study_in
    ),
    "cache": Subject(cache, nothing, go_on_caching, cached),
    "documents": Subject(
        document,
        documents_there,
        lambda root: documents.run(root / "study", made()),
        lambda root: documents.state(root / "study"),
    ),
    "export": Subject(export, models_there, go_on_exporting, exported),
    "fresh": Subject(fresh, results_somewhere, start_afresh, study_in),
    "search without syncs": Subject(without_syncs, rows_and_files, go_on_searching, study_in),
}


# ---- the harness ----


def photos() -> Path:
    return Path(os.environ["POWER_MATERIAL"]) / "photos"


def made() -> Path:
    return Path(os.environ["POWER_MATERIAL"]) / "made"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = [name for name in SUBJECTS if "without" not in name]
    parser.add_argument("--subject", type=lambda names: names.split(","), default=everything, help=", ".join(SUBJECTS))
    parser.add_argument("--points", type=int, default=0, help="go on from so many states of each subject only")
    parser.add_argument(
        "--cuts", type=int, default=0, help="the power is cut after so many events of each subject only"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", action="store_true", help="a subject is left when one state has gone wrong")
    parser.add_argument("--recorded", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.recorded:
        run_all(options.recorded, options.subject)
        return
    if why := disk.reason():
        sys.exit(f"No power cut can be tried here: {why}.")
    where = tempfile.mkdtemp(prefix="power-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    scratch = Path(where).resolve()
    os.environ["POWER_MATERIAL"] = str(scratch)
    try:
        image_folder(photos(), train=4, val=4)
        documents.prepare(made())
        found = cut(scratch, options)
        print(json.dumps(found))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.exit(any(subject["wrong"] for subject in found.values()))


def run_all(root: Path, names: list[str]) -> None:
    """What is recorded: each subject in a process and a folder of its own."""
    with open(root / "told", "wb", buffering=0) as told:

        def tell(text: str) -> None:
            told.write(f"{text}\n".encode())

        for name in names:
            (root / name).mkdir()
            tell(BEGIN + name)
            status, said = child(lambda name=name: SUBJECTS[name].run(root / name, tell) and DONE or DONE)  # type: ignore[misc]
            if status != DONE:
                sys.exit(said)


def cut(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    recorded = scratch / "expected"
    recorded.mkdir()
    command = [sys.executable, __file__, "--recorded", str(recorded), "--subject", ",".join(options.subject)]
    events = disk.record(recorded, command)
    told = story(events)
    found: dict[str, Any] = {}
    for name in options.subject:
        after = [at for at, (begun, _) in enumerate(told) if begun == name]
        points = [(at, variant) for at in spaced(after, options.cuts) for variant in disk.VARIANTS]
        different = dict[tuple[int, str], Point]()
        for point, tree in states(events, name, points):
            different.setdefault((disk.digest(tree), told[point[0]][1]), point)
        on = set(spaced(list(different.values()), options.points))
        subject = SUBJECTS[name]
        subject.go_on(recorded / name)
        expected = subject.state(recorded / name)

        def work(only: list[Point], where: Path, on: Any = on, expected: Any = expected, name: str = name) -> Any:
            for point, tree in states(events, name, only):
                wanted = expected if point in on else None
                if (said := tried(tree, told[point[0]][1], where, SUBJECTS[name], wanted)) is not None:
                    yield {"at": point[0], "variant": point[1], "told": told[point[0]][1], "said": said}

        wrong = spread(list(different.values()), work, scratch, jobs=options.jobs, first=options.first)
        found[name] = {"states": len(points), "different": len(different), "gone on from": len(on), "wrong": wrong}
        print(name, {**found[name], "wrong": len(wrong)}, file=sys.stderr, flush=True)
    return found


Point = tuple[int, str]
"""After which event, and in which variant."""


def spaced(things: list[Any], number: int) -> list[Any]:
    """So many of them, evenly spaced; 0: all."""
    if not number or number >= len(things):
        return things
    return [things[(2 * n + 1) * len(things) // (2 * number)] for n in range(number)]


def story(events: list[disk.Event]) -> list[tuple[str, str]]:
    """By event which subject had begun, and what had been told last."""
    begun, told, inode, found = "", "", -1, []
    for event in events:
        if event.what == disk.What.OPEN and event.first == "told":
            inode = event.inode
        elif event.what == disk.What.WRITE and event.inode == inode:
            text = event.data.decode().strip()
            begun, told = (text.removeprefix(BEGIN), "") if text.startswith(BEGIN) else (begun, text)
        found.append((begun, told))
    return found


def states(events: list[disk.Event], name: str, points: Collection[Point]) -> Iterator[tuple[Point, disk.Tree]]:
    """What there is of a subject at each point, in the order of events; the same for the same point."""
    played, wanted = disk.Disk(), set(points)
    for at in range(max((at for at, _ in wanted), default=-1) + 1):
        played.play(events[at])
        for variant in disk.VARIANTS:
            if (at, variant) in wanted:
                yield (at, variant), played.state(variant, random.Random(f"{at} {variant}"), name)


def tried(tree: disk.Tree, told: str, where: Path, subject: Subject, expected: Any) -> str | None:
    """What was wrong with a state, or None. expected: None: it is looked at only."""
    try:
        disk.lay_out(tree, where)
        if (wrong := subject.look(where, told)) or expected is None:
            return wrong
        status, said = child(lambda: subject.go_on(where) and DONE or DONE)
        if status != DONE:
            return f"did not go on ({status}): {said.strip()}"
        found = subject.state(where)
        if found == expected:
            return None
        return f"another result: {[name for name in expected if found.get(name) != expected[name]] or sorted(found)}"
    finally:
        shutil.rmtree(where, ignore_errors=True)


if __name__ == "__main__":
    main()
