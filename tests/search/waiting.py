"""A search of images that another process reads, or computes features of, at the same time.

Its role is `first`, `second` or `stop`. Each says by files in a folder to meet in what it does. `first` goes on when
the others wait for it; `second` begins when the first is at work; `stop` too, and asks to stop as soon as it waits. All
stop before anything is trained. Prints as JSON the sentences that the listener heard, and how the session ended.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from search.studies import search, spec

from tuner.errors import Interrupted
from tuner.search.events import Event, Notice, Phase, Progress
from tuner.store.folder import StudyFolder

PATIENCE = 120.0  # seconds after which a meeting that does not happen is given up, and the test fails


def work(study: Path, meeting: Path, role: str) -> None:
    stop = threading.Event()
    heard: list[str] = []
    phases: list[str] = []
    done = [0]

    def listen(event: Event) -> None:
        if isinstance(event, Notice) and "waiting for it" in event.text:
            heard.append(event.text)
            (meeting / f"{role} waits for {phases[-1]}").touch()
            if role == "stop":
                stop.set()
        if isinstance(event, Phase):
            phases.append(event.name)
            if role != "first" and event.name in ("images", "features"):
                expect(meeting / f"works {event.name}")
            if event.name == "baseline":
                stop.set()
        hashing = isinstance(event, Progress) and event.phase == "images" and event.done > done[0]
        if isinstance(event, Progress):
            done[0] = event.done
        if isinstance(event, Progress) and role == "first" and not hashing:  # files are hashed before anybody waits
            (meeting / f"works {event.phase}").touch()
            for other in ("second", "stop") if event.phase == "images" else ("second",):
                expect(meeting / f"{other} waits for {event.phase}")

    try:
        search(StudyFolder(study), spec(), listen, stop)
        ended = "finished"
    except Interrupted as error:
        ended = str(error)
    print(json.dumps({"heard": heard, "ended": ended}))


def expect(path: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < until, f"nobody came: {path.name}"
        time.sleep(0.02)
