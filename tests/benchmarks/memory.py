"""Peak memory of a search after few and after many small trials: it must not grow with their number.

    python tests/benchmarks/memory.py [--iterations 3,33]

Real searches of tiny photographs at 32 pixels over depths 0 and 10; only `hyperband_iterations` differs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from search import studies  # noqa: E402

PROGRAM = """
import json, sys, threading
from pathlib import Path
from tuner.search import session
from tuner.store.folder import StudyFolder
from tuner.spec.spec import Spec
root, question = json.loads(sys.argv[1])
session.run(StudyFolder(Path(root)), Spec.from_dict(question), lambda event: None, threading.Event(), command="memory")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", default="3,33")
    print("| trials | seconds | peak memory MB |\n| --- | --- | --- |")
    for iterations in parser.parse_args().iterations.split(","):
        with tempfile.TemporaryDirectory() as scratch:
            folder = studies.make(Path(scratch) / "study")
            question = studies.spec(search__hyperband_iterations=int(iterations)).to_dict()
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-c", PROGRAM, json.dumps([str(folder.root), question])],
                os.environ | {"PYTHONPATH": str(studies.ROOT), "TLSTUDY_CACHE": str(folder.root / "cache")},
            )
            _, status, usage = os.wait4(pid, 0)
            if status:
                sys.exit(f"the search ended with status {status}")
            peak = usage.ru_maxrss / (1024 * (1024 if sys.platform == "darwin" else 1))
            seconds = usage.ru_utime + usage.ru_stime
            print(f"| {studies.count(folder, 'trials')} | {seconds:.0f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
