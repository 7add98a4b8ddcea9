"""What a search will take on this machine: a probe of a few seconds, times what is left to train."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.backends import processor
from tuner.features import bank
from tuner.images import views
from tuner.images.decode import Unreadable
from tuner.images.hashing import THREADS
from tuner.images.mapped import HELD
from tuner.images.reading import original
from tuner.search import space as spaces
from tuner.search.budget import Budget, foreseen
from tuner.search.costs import FROZEN, CostModel, Left, Place, between, outstanding, unknown_sides, winners
from tuner.search.work import Work
from tuner.spec.configuration import REFERENCE, Configuration
from tuner.store import ids

if TYPE_CHECKING:
    from tuner.search.probe import Probe

LIBRARIES = 300_000_000  # bytes that pandas, scikit-learn and what they load add at the end


@dataclass(frozen=True)
class Estimate:
    """Seconds by phase in order, bytes of memory at the peak and of disk.

    `low` and `high`: seconds of the confirmation when the cheapest or the dearest configuration wins. `out_of_time`:
    configurations that the time budget is expected to leave out, and the rung they are missing from.
    """

    phases: tuple[tuple[str, float], ...]
    low: float
    high: float
    memory: int
    cache: int
    folder: int
    out_of_time: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(seconds for _, seconds in self.phases)


def estimate(work: Work, left: list[Left], folder: Path, start: float, end: float) -> Estimate:
    """Probes this machine in a new `folder` and adds up what is `left`; `start` and `end`: seconds before and after."""
    from tuner.search import probe

    folder.mkdir()
    dataset = work.dataset
    train, validation, test = (len(dataset.indices(split)) for split in ("train", "val", "test"))
    seen = spaces.augmentations(work.space)
    every = [Configuration(unfrozen_layers=d, augmentation=a) for d in spaces.depths(work.space) for a in seen]
    every += [draw.values for draw in work.plan.draws]
    places = tuple(dict.fromkeys(work.cost.place(values) for values in every))
    subject = probe.Subject(
        work.spec,
        work.space,
        work.network,
        len(dataset.classes),
        train,
        validation,
        test,
        places,
        work.wanted,
        work.passes(),
        work.means,
    )
    found = probe.run(subject, folder)
    model = _model(work, found)
    drawing = _drawing(work)
    begin = start + _reading(work) + found.backbone
    phases = {"start": begin + end, "features": drawing + found.features}
    budget = Budget(work.spec.search.time_budget, work.facts.seconds, clock=lambda: begin + drawing + found.features)
    expected = foreseen(work.plan, work.facts, model, budget.left())
    left = outstanding(work.plan, expected, model)
    phases |= dict.fromkeys(("baseline", "search", "confirm"), 0.0)
    if work.plan.confirm is None:
        del phases["confirm"]
    for part in left:
        phases[part.phase] += model.seconds(part) or 0.0
    for phase, seconds in _networks(work, found, left, expected.out_of_time).items():
        phases[phase] += seconds
    each = [_confirmed(work, model, place) for place in winners(work.plan, work.cost)]
    known = len([p for p in left if p.phase != "confirm"]) == 0
    low, high = (phases.get("confirm", 0.0),) * 2 if known or work.plan.confirm is None else (min(each), max(each))
    disk, late = _folder(work, found), expected.out_of_time
    return Estimate(tuple(phases.items()), low, high, _memory(work, found), work.to_write(), disk, late)


def _model(work: Work, found: Probe) -> CostModel:
    """The search's own model with what the probe found."""
    model = dataclasses.replace(
        work.cost,
        per_trial=found.per_trial,
        per_fit=found.per_fit,
        per_byte=found.per_byte,
        per_loaded_byte=found.per_loaded_byte,
        bytes=found.bytes,
        _measured={},
    )
    for place, seconds in found.epochs.items():
        model.observe(place, [seconds] * 2)  # no trace in it, as there may be in the first of a search
    return model


def _reading(work: Work) -> float:
    """Seconds to read photographs and stored features once more: their bytes at the pace of hashing."""
    some = bytes(16_000_000)
    began = time.perf_counter()
    hashlib.sha256(some)
    per_byte = (time.perf_counter() - began) / len(some)
    size = sum(size for size, _ in work.dataset.stamps) + 2 * work.dataset.images.nbytes
    size += sum(len(work.dataset.images) * bank.bytes_of(work.network, name) for view in work.stored for name in view)
    return size * per_byte


def _drawing(work: Work) -> float:
    """Seconds to draw the views that are not there yet: of one image here."""
    if not work.undrawn:
        return 0.0
    spec, dataset = work.spec, work.dataset
    record = dataset.records[dataset.indices("train")[0]]
    began = time.perf_counter()
    with contextlib.suppress(Unreadable, OSError), original(dataset.root / record.path, record.sha256) as image:
        for v in work.undrawn:
            views.view(
                image,
                v.augmentation,
                spec.data.image_size,
                spec.data.resize,
                seed=spec.search.seed,
                sha256=record.sha256,
                number=v.number,
            )
    each = (time.perf_counter() - began) / len(work.undrawn)
    return each * sum(v.images for v in work.undrawn) / min(THREADS, processor.cores())


def _networks(work: Work, found: Probe, left: list[Left], out_of_time: Mapping[str, int]) -> dict[str, float]:
    """Seconds to make and trace the networks that will be met, each once; they live as long as the process."""
    seconds = {"baseline": 0.0, "search": 0.0, "confirm": 0.0}
    phases = {part.phase for part in left}
    heads: dict[tuple[Any, ...], set[tuple[int, bool]]] = {}

    def meet(phase: str, values: Configuration) -> None:
        place = work.cost.place(values)
        head = (values.head_width, values.dropout > 0)
        known = heads.setdefault(place, set())
        if head in known:
            return
        first, further = _trace(work, found, place)
        seconds[phase] += further if known else first
        known.add(head)

    if "baseline" in phases:
        for values in [REFERENCE, *work.plan.frozen]:
            meet("baseline", values)
    if "search" in phases:
        for draw in work.plan.draws:
            if out_of_time.get(ids.searched(draw.number)) != 0:
                meet("search", draw.values)
    elif "confirm" in phases:
        for part in left:
            for place in part.places:
                seconds["confirm"] += _trace(work, found, place)[0]
    return {phase: s for phase, s in seconds.items() if s}


def _trace(work: Work, found: Probe, place: Place) -> tuple[float, float]:
    """(seconds of the first network at a place, of another head on it): more layers take longer to trace."""
    if place in found.networks and place in found.heads:
        return found.networks[place], found.heads[place]

    def layers(at: Place) -> int:
        return work.network.layers_above(at[0])

    known = sorted((layers(p), s) for p, s in found.networks.items() if p != FROZEN)
    first = between(layers(place), [(float(n), s) for n, s in known])
    share = next((h / max(found.networks[p], 1e-9) for p, h in found.heads.items() if p != FROZEN), 0.0)
    return first, first * min(1.0, share)


def _confirmed(work: Work, model: CostModel, place: Place) -> float:
    """Seconds of the confirmation if a configuration at this place wins."""
    parts = unknown_sides(work.plan, model, work.spec.confirm, {place: 1.0})
    return sum(model.seconds(part) or 0.0 for part in parts)


def _memory(work: Work, found: Probe) -> int:
    """Bytes at the peak: the probe's, those of the networks it did not make, mapped features, and libraries."""
    # Of each further suffix: its weights, two slots of the optimizer, and the best epoch's copy.
    further = sum(4 * size for place, size in found.bytes.items() if place not in found.epochs)
    images = len(work.dataset.images) * len(work.stored)
    held = min(HELD, sum(images * work.network.bytes(cut) for cut in work.wanted))
    return found.memory + further + held + LIBRARIES


def _folder(work: Work, found: Probe) -> int:
    """Bytes of the study's folder at most: whole states of a rung that may go on, then the best weights of the dearest
    winner and of all its fresh seeds.
    """
    places = winners(work.plan, work.cost)
    if not places:
        return 0
    sizes = [found.bytes[place] for place in places]
    going = max((max(b.sizes[1:], default=0) for b in work.plan.brackets), default=0)
    kept = 1
    if work.plan.confirm is not None:
        parts = unknown_sides(work.plan, work.cost, work.spec.confirm, {max(places, key=work.cost.work): 1.0})
        kept += int(parts[0].trials) - sum(work.plan.folds)
    return int(max(4 * going * sum(sizes) / len(sizes) + max(sizes), kept * max(sizes)))
