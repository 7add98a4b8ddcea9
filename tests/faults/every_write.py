"""Fails every write of a costless search in turn, goes on, and compares with the search that nothing disturbed.

    python tests/faults/every_write.py [--subject search,cache,documents] [--points 0] [--kinds crash,ENOSPC,EIO,short]
                                       [--double 50] [--jobs 2]

For N = 1, 2, 3 ... (or `--points` of them) the N-th write crashes the process, or fails once, or fails from then
on; the next process goes on without a fault. Ends with status 1 if one of them ended differently, left files behind, or
said anything but an error of ours. `--double`: crashes in the run that recovers, too. Subjects "without" a safeguard
have it taken away: they must not pass.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import numpy as np  # noqa: E402
from faults import caching, costless, documents, injection  # noqa: E402
from image_files import folder as image_folder  # noqa: E402
from search.studies import facts  # noqa: E402

from tuner.errors import TlstudyError  # noqa: E402
from tuner.search.checkpoints import Checkpoints  # noqa: E402
from tuner.store.folder import StudyFolder  # noqa: E402
from tuner.store.store import Saved  # noqa: E402
from tuner.training import trial  # noqa: E402

DONE, REFUSED, BROKE = 0, 3, 4
LAST = costless.QUESTION.override({"search.checkpoint": "last", "search.objective": "val_auc"})
OK = {DONE, REFUSED, injection.CRASHED}


@dataclass(frozen=True)
class Point:
    """One disturbance: the `at`-th write of the first process, and for a double the `again`-th of the second."""

    kind: str
    at: int
    persistent: bool = False
    again: int = 0


def main() -> None:
    options = parse()
    scratch = Path(tempfile.mkdtemp(prefix="every-write-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    try:
        image_folder(PHOTOS, train=4, val=4)
        documents.prepare(MADE)
        found = {name: disturbed(name, scratch / str(n), options) for n, name in enumerate(options.subject)}
        print(json.dumps(found))
    finally:
        for made in (scratch, PHOTOS, MADE):
            shutil.rmtree(made, ignore_errors=True)
    sys.exit(any(subject["wrong"] for subject in found.values()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", type=lambda names: names.split(","), default=["search"], help=", ".join(SUBJECTS))
    parser.add_argument("--points", type=int, default=0, help="so many writes of each kind only")
    parser.add_argument("--kinds", default=",".join(injection.KINDS), help="one named twice is drawn twice")
    parser.add_argument("--double", type=int, default=50, help="pairs of crashes, at random")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--first", action="store_true", help="a subject is left when one has gone wrong")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def disturbed(name: str, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """How many writes a subject takes, how many were disturbed, and what went wrong then."""
    scratch.mkdir()
    subject = SUBJECTS[name]
    total = undisturbed(scratch / "expected", subject)
    expected = subject.state(scratch / "expected")
    points = list(wanted(options, total))

    def work(mine: list[Point], where: Path) -> Iterator[dict[str, Any]]:
        for number, point in enumerate(mine):
            if (said := disturb(point, where / str(number), subject=subject, expected=expected)) is not None:
                yield asdict(point) | {"said": said}

    wrong = spread(points, work, scratch, jobs=options.jobs, first=options.first)
    return {"writes": total, "points": len(points), "wrong": wrong}


def stream() -> None:
    """Shuffling draws from one stream of the process, not from a name."""
    shared = np.random.default_rng(0)
    trial.generator = lambda *names: shared


def in_place() -> None:
    """Checkpoints keep their names, are written where they lie and are not checked."""

    def write(path: Path, write_to: Callable[[Any], None]) -> tuple[int, str]:
        path = path.with_name(path.name[: path.name.rindex("-")] + ".npz")
        path.parent.mkdir(exist_ok=True)
        with open(path, "wb") as file:
            write_to(file)
        return path.stat().st_size, ""

    def save(folder: Path, configuration: str, role: str, epoch: int, arrays: Any) -> Saved:
        return replace(saving(folder, configuration, role, epoch, arrays), file=f"{configuration}-{role}.npz")

    saving, trial.write_atomically = trial.save_arrays, write
    trial.save_arrays = save
    Checkpoints.whole = lambda self, saved: True  # type: ignore[method-assign]
    Checkpoints.sweep = lambda self, kept: None  # type: ignore[method-assign]
    Checkpoints.remove = lambda self, saved: None  # type: ignore[method-assign]


def wanted(o: argparse.Namespace, total: int) -> Iterator[Point]:
    draw = random.Random(o.seed)
    for kind, persistent in itertools.product(o.kinds.split(","), (False, True)):
        if kind == "crash" and persistent:
            continue
        stride = max(1, total // o.points) if o.points else 1
        for at in range(1 + draw.randrange(stride), total + 1, stride):
            yield Point(kind, at, persistent)
    for _ in range(o.double):
        at = draw.randrange(1, total + 1)
        yield Point("crash", at, again=draw.randrange(1, max(2, total - at)))


@dataclass(frozen=True)
class Subject:
    """`run` begins or goes on in a folder; `state` is what must be the same however often it was disturbed."""

    run: Callable[[Path], Any]
    state: Callable[[Path], dict[str, Any]]


def searched(root: Path) -> dict[str, Any]:
    """All results in the database, and that the checkpoint files are those it names."""
    folder = StudyFolder(root)
    found = facts(folder)
    files = sum(1 for _ in folder.checkpoints.iterdir())
    return found | {"files": files == len(found["checkpoints"])}


PHOTOS = Path(tempfile.gettempdir()) / f"every-write-photos-{os.getpid()}"


def run_caching(root: Path) -> None:
    state = caching.run(root, PHOTOS)
    (root.parent / "state.json").write_text(json.dumps(state))  # outside of the folder: not counted


def cached(root: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((root.parent / "state.json").read_text())
    return state


MADE = Path(tempfile.gettempdir()) / f"every-write-study-{os.getpid()}"


def without(take_away: Callable[[], None]) -> Subject:
    """A search that lacks a safeguard in every process."""

    def run(root: Path) -> None:
        take_away()
        costless.run(root)

    return Subject(run, searched)


SUBJECTS = {
    "search": Subject(costless.run, searched),
    "search by last epochs": Subject(partial(costless.run, question=LAST), searched),
    "search without named randomness": without(stream),
    "search without whole files": without(in_place),
    "cache": Subject(run_caching, cached),
    "documents": Subject(lambda root: documents.run(root, MADE), documents.state),
}


def undisturbed(root: Path, subject: Subject) -> int:
    """Runs to the end and returns how many writes that took, crash points after commits included."""

    def work() -> int:
        faults = injection.Faults(root, "crash", 0, False)
        injection.install(faults)
        subject.run(root)
        (root.parent / "count").write_text(str(faults.seen))
        return DONE

    status, said = child(work)
    assert status == DONE, said
    return int((root.parent / "count").read_text())


def disturb(point: Point, where: Path, subject: Subject, expected: dict[str, Any]) -> str | None:
    """What was wrong, or None."""
    root = where / "study"
    where.mkdir(parents=True)
    try:
        for at in [point.at] + ([point.again] if point.again else []):
            faults = injection.Faults(root, point.kind, at, point.persistent)
            status, said = child(lambda faults=faults: attempt(root, subject, faults))  # type: ignore[misc]
            if status not in OK:
                return f"ended with {status}: {said}"
        status, said = child(lambda: attempt(root, subject, None))
        if status != DONE:
            return f"did not go on ({status}): {said}"
        found = subject.state(root)
        different = [name for name in expected if found[name] != expected[name]]
        return f"another result: {', '.join(different)}" if different else None
    finally:
        shutil.rmtree(where, ignore_errors=True)


def attempt(root: Path, subject: Subject, faults: injection.Faults | None) -> int:
    if faults is not None:
        injection.install(faults)
    try:
        subject.run(root)
        return DONE
    except (TlstudyError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return REFUSED


def child(work: Callable[[], int]) -> tuple[int, str]:
    """Runs in a fork, so that what Python and the libraries need is loaded once; status and the end of stderr."""
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 2)
            try:
                status = work()
            except BaseException:
                traceback.print_exc()
                status = BROKE
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        return status, said.read().decode(errors="replace")[-1500:]


def spread(
    points: list[Any],
    work: Callable[[list[Any], Path], Iterator[dict[str, Any]]],
    scratch: Path,
    *,
    jobs: int,
    first: bool,
) -> list[dict[str, Any]]:
    """Does all points, each `jobs`-th in a process of its own; what went wrong, of each process only the `first`."""
    children, most = [], 1 if first else None
    for job in range(jobs):
        report = scratch / f"wrong-{job}"
        pid = os.fork()
        if pid == 0:
            try:
                wrong = list(islice(work(points[job::jobs], scratch / str(job)), most))
                report.write_text(json.dumps(wrong))
                os._exit(DONE)
            except BaseException:
                traceback.print_exc()
                os._exit(BROKE)
        children.append((pid, report))
    found: list[dict[str, Any]] = []
    for pid, report in children:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found += json.loads(report.read_text()) if status == DONE else [{"said": f"the harness ended with {status}"}]
    return found


if __name__ == "__main__":
    main()
