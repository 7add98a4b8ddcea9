"""Kills real searches with SIGKILL at random moments, lets them go on, and compares with one that was left alone.

    python tests/faults/torture.py [--kills 300] [--seed 0] [--depths 0,10] [--recipe all]

Each study is real from the photographs to the last trial, with a cache of its own, and saves after every epoch. The
processes are forks of one that has imported Keras, which touches no file of the study. One is killed at a moment drawn
evenly from the time a whole run takes; the next one goes on and is killed likewise (half of them in the first tenth of
that time), until one comes to its end. Only a trial that already died twice in one epoch is left alone: a third time it
would be marked failed, as promised elsewhere.

Prints kills, how many fell into training and into a recovery (the process after a kill, before it had finished an
epoch), resumes, differences, and the bound on the share of kills that do harm.
"""

from __future__ import annotations

import argparse
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from search import studies  # noqa: E402

from tuner.search import session  # noqa: E402
from tuner.store.folder import StudyFolder  # noqa: E402
from tuner.store.store import Store  # noqa: E402
from tuner.training import trial  # noqa: E402

WARM, DEPTHS, RECIPE = "TORTURE_CACHE", "TORTURE_DEPTHS", "TORTURE_RECIPE"
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
    options = parser.parse_args()
    wanted = Wanted(
        options.kills,
        options.kills / 3 if options.training is None else options.training,
        options.kills / 6 if options.recovery is None else options.recovery,
    )
    os.environ[DEPTHS], os.environ[RECIPE] = options.depths, options.recipe
    draw, count, different = random.Random(options.seed), Count(), []
    scratch = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        if options.warm:
            os.environ[WARM] = str(scratch / "cache")
        alone = studies.make(scratch / "alone", test=2)
        began = time.monotonic()
        status, errors = process(alone, None)
        whole = time.monotonic() - began
        if status == 0 and options.warm:  # those that follow find what this one made
            whole -= before_training(alone)
        if status:
            sys.exit(f"the search that is left alone ended with {status}:\n{errors}")
        expected = studies.facts(alone)
        while count.short(wanted):
            folder = studies.make(scratch / f"study-{count.studies}", test=2)
            if said := torment(folder, draw, whole, wanted, count):
                different.append(said)
            elif studies.facts(folder) != expected:
                found = studies.facts(folder)
                different.append(f"{folder.root}: {[k for k in expected if found[k] != expected[k]]} differ")
            if different and different[-1].startswith(str(folder.root)):
                continue  # kept, to be looked at
            shutil.rmtree(folder.root)
            print(f"  {count}, {len(different)} differences", flush=True)
    finally:
        if not different:
            shutil.rmtree(scratch, ignore_errors=True)
    print("\n".join([*different, summary(count, len(different))]))
    sys.exit(bool(different))


def torment(folder: StudyFolder, draw: random.Random, whole: float, wanted: Wanted, count: Count) -> str | None:
    """Starts and kills until a process comes to its end; what went wrong, or None."""
    count.studies += 1
    after_kill = False
    while True:
        before = studies.count(folder, "epochs")
        spared = not count.short(wanted)
        # Half of those that go on after a kill are killed early, so that a recovery is cut off too.
        early = after_kill and draw.random() < 0.5
        moment = None if spared else draw.uniform(0, whole * (EARLY if early else 1.0))
        status, errors = process(folder, moment)
        count.resumes += after_kill
        if status == 0:
            return None
        if status != -signal.SIGKILL:
            return f"{folder.root}: ended with {status}: {errors}"
        count.kills += 1
        count.training += in_training(folder)
        count.recovery += after_kill and studies.count(folder, "epochs") == before
        after_kill = True


def process(folder: StudyFolder, moment: float | None) -> tuple[int, str]:
    """Runs a search, killed after `moment` seconds unless it ended before; its status and the end of what it said."""
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os._exit(search(folder))
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                break
            if moment is not None and time.monotonic() - began >= moment:
                os.kill(pid, signal.SIGKILL)
                moment = None
            time.sleep(0.002)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read().decode(errors="replace")[-1500:]


def search(folder: StudyFolder) -> int:
    """One session, in this process; 0 when it came to its end."""
    os.environ["TLSTUDY_CACHE"] = os.environ.get(WARM) or str(folder.root / "cache")
    trial.SAVE_EVERY = 0.0
    depths = [int(depth) for depth in os.environ[DEPTHS].split(",")]
    question = studies.spec(space__unfrozen_layers=depths).override(RECIPES[os.environ[RECIPE]])
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
        f"studies, {count.resumes} resumes, {differences} differences{bound}"
    )


if __name__ == "__main__":
    main()
