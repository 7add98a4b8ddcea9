"""What each technique is worth: the same study with one of them switched off at a time.

    python tests/benchmarks/ablation.py [--runs 1] [--only images,rebuilt] [--data DIR --weights FILE] [--json FILE]

Each rung is the whole command with functions of tlstudy replaced before it starts (RUNGS); trials, seeds and epochs
stay the same. A rung whose functions this version does not have says so and is left out.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import inside
import measuring

NEAREST = "tuner.backbones.architecture:Architecture.nearest"  # where a trial begins

# ---- one technique off: each says whether there was something to switch off ----


def images() -> bool:
    """Every trial starts at the photographs, so frozen layers see them in every epoch; the pooled features are kept
    for logistic regression alone.
    """
    stored = inside.replace("tuner.features.bank:worth_storing", lambda _: lambda *_, **__: ("pooled",))
    return stored and inside.replace(NEAREST, lambda _: lambda self, cut, stored: "image")


def pooled() -> bool:
    """Head-only trials run the last block, as when a cut is a block's output and never lies behind the pooling."""

    def make(original: Any) -> Any:
        return lambda self, cut, stored: original(self, "conv5_block2" if cut == "pooled" else cut, stored)

    return inside.replace(NEAREST, make)


def rebuilt() -> bool:
    """Each trial builds and traces its network anew."""

    def make(original: Any) -> Any:
        def get(self: Any, *arguments: Any, **keywords: Any) -> Any:
            self._networks.clear()
            self._suffixes.clear()
            return original(self, *arguments, **keywords)

        return get

    return inside.replace("tuner.training.network:Networks.get", make)


def widths() -> bool:
    """Each head width above a suffix has a network and a trace of its own."""

    def make(original: Any) -> Any:
        def start(self: Any, *arguments: Any, **keywords: Any) -> None:
            original(self, *arguments, **keywords)
            self._shared = ()

        return start

    return inside.find("tuner.training.head:WIDEST_SHARED") is not None and inside.replace(
        "tuner.training.network:Networks.__init__", make
    )


def checkpoints() -> bool:
    """Both checkpoints are written after every epoch."""
    return inside.replace("tuner.training.trial:SAVE_EVERY", lambda _: 0.0)


def optimizer() -> bool:
    """Keras's own Adam, ten operations a variable, instead of one kernel."""
    return inside.replace(
        "tuner.backends.on_tensorflow:_apply", lambda _: lambda kept, found, moved: kept.apply(found, moved)
    )


def layers() -> bool:
    """Keras's own layers: BatchNorm by itself, and every pixel of a stage's end stored and computed."""
    from tuner.backbones.resnet50.backbone import ResNet50

    there = inside.replace("tuner.backbones.resnet50.tables:STAGE_ENDS", lambda _: ())
    for name in ("prefix", "suffix"):
        stock = getattr(ResNet50, f"stock_{name}")
        place = f"tuner.backbones.resnet50.backbone:ResNet50.{name}"
        there = there and inside.replace(place, lambda _, stock=stock: stock)
    return there


def numbers() -> bool:
    """The weights are loaded by Keras into its own network, as when no file's layout is known."""
    return inside.replace("tuner.backbones.resnet50.numbers:_whole", lambda _: lambda path: None)


@dataclass(frozen=True)
class Rung:
    """A technique and how it is switched off; `off` returns False where this version has no such technique."""

    title: str
    off: Callable[[], bool]


RUNGS = {
    "images": Rung("features not stored: every trial starts at the photographs", images),
    "pooled": Rung("no pooled cut: head-only trials run the last block", pooled),
    "rebuilt": Rung("networks built and traced anew for each trial", rebuilt),
    "widths": Rung("one trace for each head width", widths),
    "layers": Rung("stock layers: BatchNorm not folded, every pixel computed", layers),
    "optimizer": Rung("stock Adam instead of the fused kernel", optimizer),
    "checkpoints": Rung("checkpoints after every epoch", checkpoints),
    "numbers": Rung("weights loaded into Keras's own network first", numbers),
}
"""A further technique is one function above and one line here."""


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        switched_off(sys.argv[2], sys.argv[3:])
        return
    parser = measuring.parser(__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--only", default=",".join(RUNGS), help="which rungs, by name")
    o = parser.parse_args()
    names = ["all", *(n for n in RUNGS if n in o.only.split(","))]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with measuring.material(o) as scratch:
        for number in range(o.runs):
            for name in names:
                folder = scratch / "run"
                folder.mkdir()
                command = [sys.executable, str(measuring.HERE / "ablation.py"), "--inside", name]
                command += measuring.search_arguments(o)
                found, said = measuring.measure(command, measuring.ours(o, folder)[1], folder)
                found["there"] = "not in this version" not in said
                runs[name].append(found)
                print(f"  run {number + 1} of {o.runs}: {name}: {found['wall']:.1f} s", flush=True)
                shutil.rmtree(folder)
        print(f"\n{measuring.heading(o)}")
    show(runs)
    measuring.write_json(o.json, o, ablation={"runs": runs, "titles": {n: r.title for n, r in RUNGS.items()}})


def show(runs: dict[str, list[dict[str, Any]]]) -> None:
    rows = []
    for name, found in runs.items():
        title = RUNGS[name].title if name in RUNGS else "everything on"
        if not found[0]["there"]:
            rows.append([title, "not in this version", "", "", "", ""])
            continue
        pairs = zip(found, runs["all"], strict=True)
        ratio = measuring.spread([off["wall"] / on["wall"] for off, on in pairs], 2)
        rest = [f"{statistics.median(r[key] for r in found):.0f}" for key in ("cpu", "memory", "disk")]
        rows.append([title, measuring.spread([r["wall"] for r in found]), ratio, *rest])
    head = ["one technique off", "wall s", "times as long", "CPU s", "peak memory MB", "folder MB"]
    print(measuring.table(head, rows))


def switched_off(name: str, arguments: list[str]) -> None:
    """Runs the command here without the named technique ("all": with everything)."""
    inside.load()
    if name in RUNGS and not RUNGS[name].off():
        print("not in this version")
        return
    inside.run(arguments)


if __name__ == "__main__":
    main()
