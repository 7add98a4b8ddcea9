"""Kills real searches with SIGKILL at random moments, lets them go on, and compares with one that was left alone.

    python tests/faults/torture.py [--kills 300] [--seed 0] [--depths 0,10] [--recipe all]

Each study is real from the photographs to the last trial, with a cache of its own, and saves after every epoch. The
processes are forks of one that has imported Keras, which touches no file of the study. One is killed at a moment drawn
evenly from the time a whole run takes; the next one goes on and is killed likewise (half of them in the first tenth of
that time), until one comes to its end.

A third of the studies are two at once that share a cache, begun a moment apart; each is killed on its own. A third of
these run with a process-number namespace each, as in two containers: both have the same number.

Prints kills, how many fell into training and into a recovery (the process after a kill, before it had finished an
epoch), resumes, differences, and the bound on the share of kills that do harm.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from search import studies  # noqa: E402

from tuner.search import session  # noqa: E402
from tuner.store.folder import StudyFolder  # noqa: E402
from tuner.store.store import Store  # noqa: E402
from tuner.training import trial  # noqa: E402

WARM, QUESTION = "TORTURE_CACHE", "TORTURE_QUESTION"
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "tutorial": {
        "space.head_init": "random",
        "search.schedule": "constant",
        "search.warmup_epochs": 0.0,
        "search.checkpoint": "best",
    },
    "patient": {"search.checkpoint": "best", "search.patience": 1},
    "all": {
        "space.head_init": ["linear_probe", "random"],
        "space.layer_decay": 0.7,
        "space.mixup": [0.0, 0.2],
        "space.augmentation": ["none", "light", "flip"],
        "data.views": 2,
        "search.schedule": "cosine",
        "search.warmup_epochs": 0.5,
        "search.ema": 0.8,
        "search.checkpoint": "last",
        "search.tta": "flip",
        "search.objective": "val_auc",
    },
}
"""What a study's trials are trained by, in keys of study.toml."""
EARLY = 0.1
PAIRS, NAMESPACES = 5, 3
"""Each so-manieth round is of two studies at once, and each so-manieth of those in namespaces of their own."""


@dataclass(frozen=True)
class Wanted:
    """How many kills there are to be, and of these in training and in a recovery at least."""

    kills: int
    training: float
    recovery: float


@dataclass
class Count:
    kills: int = 0
    training: int = 0
    recovery: int = 0
    studies: int = 0
    sharing: int = 0
    namespaces: int = 0
    resumes: int = 0

    def short(self, wanted: Wanted) -> bool:
        """Whether there are to be more."""
        return self.kills < wanted.kills or self.training < wanted.training or self.recovery < wanted.recovery


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--training", type=int, help="of these in training at least; by default a third")
    parser.add_argument("--recovery", type=int, help="of these in a recovery at least; by default a sixth")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm", action="store_true", help="one cache for all: kills fall into training")
    parser.add_argument("--depths", default="0,10", help="numbers of unfrozen layers: deep ones have a larger graph")
    parser.add_argument("--recipe", choices=RECIPES, default="default")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--weights", default="random", help="as backbone.weights: a file, with --image-size 224")
    options = parser.parse_args()
    wanted = Wanted(
        options.kills,
        options.kills / 3 if options.training is None else options.training,
        options.kills / 6 if options.recovery is None else options.recovery,
    )
    changes = {
        "space.unfrozen_layers": [int(depth) for depth in options.depths.split(",")],
        "data.image_size": options.image_size,
        "backbone.weights": options.weights,
    }
    os.environ[QUESTION] = json.dumps(changes | RECIPES[options.recipe])
    draw, count, different = random.Random(options.seed), Count(), []
    scratch = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        if options.warm:
            os.environ[WARM] = str(scratch / "cache")
        alone = studies.make(scratch / "alone", test=2)
        began = time.monotonic()
        status, errors = process(alone, None, scratch / "cache-alone", apart=False)
        whole = time.monotonic() - began
        if status == 0 and options.warm:  # those that follow find what this one made
            whole -= before_training(alone)
        if status:
            sys.exit(f"the search that is left alone ended with {status}:\n{errors}")
        expected = studies.facts(alone)
        possible = namespaces()
        for rounds in itertools.count():
            if not count.short(wanted):
                break
            place = scratch / f"round-{rounds}"
            pair, apart = rounds % PAIRS == PAIRS - 1, rounds // PAIRS % NAMESPACES == 0
            said = torment_all(place, 1 + pair, pair and apart and possible, draw, whole, wanted, count, expected)
            different += said
            if not said:  # else kept, to be looked at
                shutil.rmtree(place)
            print(f"  {count}, {len(different)} differences", flush=True)
    finally:
        if not different:
            shutil.rmtree(scratch, ignore_errors=True)
    print("\n".join([*different, summary(count, len(different))]))
    sys.exit(bool(different))


def torment_all(
    place: Path,
    number: int,
    apart: bool,
    draw: random.Random,
    whole: float,
    wanted: Wanted,
    count: Count,
    expected: dict[str, Any],
) -> list[str]:
    """Torments so many studies at once, which share a cache, each from a process of its own; what went wrong.

    apart: each study's processes have a process-number namespace of their own.
    """
    children = []
    for one in range(number):
        folder = studies.make(place / f"study-{one}", test=2)
        seed, delay = draw.random(), one * draw.uniform(0, whole / 2)
        report = place / f"report-{one}"
        if (pid := os.fork()) == 0:
            status, mine = 1, Count(**asdict(count))
            try:
                time.sleep(delay)
                said = torment(folder, place / "cache", apart, random.Random(seed), whole, wanted, mine)
                if said is None and (found := studies.facts(folder)) != expected:
                    said = f"{folder.root}: {[k for k in expected if found[k] != expected[k]]} differ"
                report.write_text(json.dumps([asdict(mine), said]))
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        children.append((pid, report))
    before, wrong = asdict(count), list[str]()
    for pid, report in children:
        if os.waitpid(pid, 0)[1]:
            sys.exit("the harness failed")
        after, said = json.loads(report.read_text())
        for name, had in before.items():
            setattr(count, name, getattr(count, name) + after[name] - had)
        wrong += [said] if said else []
    count.studies += number
    count.sharing += number * (number > 1)
    count.namespaces += number * apart
    return wrong


def torment(
    folder: StudyFolder, cache: Path, apart: bool, draw: random.Random, whole: float, wanted: Wanted, count: Count
) -> str | None:
    """Starts and kills until a process comes to its end; what went wrong, or None."""
    after_kill = False
    while True:
        before = studies.count(folder, "epochs")
        spared = not count.short(wanted)
        # Half of those that go on after a kill are killed early, so that a recovery is cut off too.
        early = after_kill and draw.random() < 0.5
        moment = None if spared else draw.uniform(0, whole * (EARLY if early else 1.0))
        status, errors = process(folder, moment, cache, apart)
        count.resumes += after_kill
        if status == 0:
            return None
        if status != -signal.SIGKILL:
            return f"{folder.root}: ended with {status}: {errors}"
        count.kills += 1
        count.training += in_training(folder)
        count.recovery += after_kill and studies.count(folder, "epochs") == before
        after_kill = True


def process(folder: StudyFolder, moment: float | None, cache: Path, apart: bool) -> tuple[int, str]:
    """Runs a search, killed after `moment` seconds unless it ended before; its status and the end of what it said."""
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            if apart:
                in_a_namespace(writing)
            os._exit(search(folder, cache))
        os.close(writing)
        with open(reading) as pipe:
            searching = int(pipe.readline() or pid) if apart else pid
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if moment is not None and time.monotonic() - began >= moment:
                os.kill(searching, signal.SIGKILL)
                moment = None
            time.sleep(0.002)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(errors="replace")[-1500:]


def in_a_namespace(writing: int) -> None:
    """Returns in a child that is process 1 of a namespace of its own, whose number outside goes into the pipe; this
    process ends as the child does.
    """
    assert unshared(), "namespaces were there a moment ago"
    if pid := os.fork():
        os.write(writing, f"{pid}\n".encode())
        os.close(writing)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status < 0:
            os.kill(os.getpid(), -status)
        os._exit(status)
    os.close(writing)
    assert os.getpid() == 1


def unshared() -> bool:
    """Whether what this process forks from now on is in another process-number namespace. Linux, as root."""
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    return unshare is not None and unshare(0x20000000) == 0  # CLONE_NEWPID


def namespaces() -> bool:
    """Whether there are any, tried in a child."""
    if (pid := os.fork()) == 0:
        os._exit(not unshared())
    return os.waitpid(pid, 0)[1] == 0


def search(folder: StudyFolder, cache: Path) -> int:
    """One session, in this process; 0 when it came to its end."""
    os.environ["TLSTUDY_CACHE"] = os.environ.get(WARM) or str(cache)
    trial.SAVE_EVERY = 0.0
    question = studies.spec().override(json.loads(os.environ[QUESTION]))
    try:
        session.run(folder, question, lambda event: None, threading.Event(), command="torture")
        return 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return 1


def in_training(folder: StudyFolder) -> bool:
    if not folder.database.exists():
        return False
    with Store(folder.database, readonly=True) as store:
        return bool(store.rows("SELECT 1 FROM trials WHERE status = 'RUNNING'"))


def before_training(folder: StudyFolder) -> float:
    """Seconds in which images were read and features computed."""
    with Store(folder.database, readonly=True) as store:
        phases = json.loads(store.rows("SELECT phases FROM sessions")[0][0])
    return float(phases["images"] + phases["features"])


def summary(count: Count, differences: int) -> str:
    """Rule of three, in its exact form: no harm in n kills bounds the share of harmful ones by 1 - 0.05 ** (1 / n)."""
    bound = f", below {1 - 0.05 ** (1 / count.kills):.2%} of kills at 95 %" if not differences else ""
    return (
        f"{count.kills} kills ({count.training} in training, {count.recovery} in a recovery) of {count.studies} "
        f"studies ({count.sharing} of them two at once with one cache, {count.namespaces} of these with one process "
        f"number), {count.resumes} resumes, {differences} differences{bound}"
    )


if __name__ == "__main__":
    main()
