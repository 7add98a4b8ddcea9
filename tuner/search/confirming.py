"""After the search: winner and baselines trained again from fresh seeds, folds if asked for, the test set opened once.

What is trained, by which rule and with how many seeds is fixed in the store before the first of them begins; each is a
trial like any other (`schedule.confirmation`), so it resumes as one. The test images are looked at when all
of that has ended, in one transaction that records the opening too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from tuner.errors import RunError
from tuner.search import schedule
from tuner.search.checkpoints import Checkpoints
from tuner.search.costs import CostModel, planned
from tuner.search.events import Notice, Phase
from tuner.search.facts import Facts
from tuner.search.plan import Plan
from tuner.spec.configuration import Configuration
from tuner.store import held_out, openings
from tuner.store.store import Confirmation, Store
from tuner.training.context import Context
from tuner.training.subset import Subset
from tuner.training.trial import predict


@dataclass
class Confirming:
    """What the driver does for the confirmation beside its trials."""

    store: Store
    context: Context
    checkpoints: Checkpoints
    cost: CostModel
    _fixed: Confirmation | None = None

    def fix(self, plan: Plan, facts: Facts) -> None:
        """Records what is going to be confirmed, once a session: of an earlier one all of it may not stand yet."""
        if (now := planned(plan, facts, self.cost)) is None or now == self._fixed:
            return
        with self.store.transaction():
            self.store.fix_confirmation(now)
            for side in now.sides:
                if side.kind == "logistic" and (now.epochs == "fixed" or not plan.test):  # itself is what is confirmed
                    held_out.confirms(self.store, side.source, schedule.itself(side))
        facts.confirmation = self._fixed = now

    def fewer(self, plan: Plan, facts: Facts) -> Notice | None:
        """That fewer seeds are asked for than there are, in words."""
        now, asked = facts.confirmation, plan.confirm.seeds if plan.confirm is not None else "auto"
        if now is None or not isinstance(asked, int) or asked >= now.seeds:
            return None
        return Notice(f"confirm.seeds: found {asked}, and {now.seeds} were trained: those count, seeds are only added.")

    def announcement(self, plan: Plan, facts: Facts) -> Phase | Notice:
        """What is going to be confirmed, or why nothing is."""
        if facts.confirmation is None or plan.confirm is None or schedule.sides(plan, facts) is None:
            return Notice("Nothing to confirm: no configuration reached max_epochs.", warning=True)
        now = facts.confirmation
        fixed = now.epochs == "fixed"
        names = [s.source + (f" ({s.epochs} epochs)" if fixed and s.epochs > 1 else "") for s in now.sides]
        text = " against ".join(names[:2]) + "".join(f", also {name}" for name in names[2:])
        folds = plan.confirm.folds
        more = f", {folds} folds {plan.confirm.repeats} times" if folds else ""
        return Phase("confirm", f"{text}, {now.seeds} fresh seeds{more}")

    def held_out(self, subset: Subset) -> np.ndarray:
        """Rows of the images that a trial of this subset predicts at its end, int64."""
        return self.context.rows(subset).held_out

    def open_test(self, plan: Plan, facts: Facts, pause: Callable[[], None]) -> None:
        """Predicts the test images with every seed and records that they were looked at. `pause` is asked in between
        and may raise.
        """
        if facts.confirmation is None:
            return
        values = {side.source: Configuration.from_dict(side.hyperparameters) for side in facts.confirmation.sides}
        source = {t.configuration: t.confirms.source for t in schedule.confirmation(plan, facts) if t.confirms}
        found = {}
        for name in schedule.unpredicted(plan, facts):
            found[name] = self._predict(name, values[source.get(name, name)], facts)
            pause()
        winner, baseline = (side.source for side in facts.confirmation.sides[:2])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self.store.transaction():
            opening = held_out.open_test(self.store, now, winner, baseline)
            openings.count_others(self.store)
            for name, chances in found.items():
                held_out.record(self.store, name, opening, self.context.test, chances)
        openings.record(self.store)
        facts.predicted |= set(found)

    def _predict(self, name: str, values: Configuration, facts: Facts) -> np.ndarray:
        saved = facts.checkpoints.get((name, "best"))
        if saved is None or not self.checkpoints.whole(saved):
            raise RunError(
                f"{self.checkpoints.folder}: the weights of {name} are missing or damaged, so the photographs that "
                "were held out cannot be predicted. Run the same command again: what is lost is trained again."
            )
        with np.load(self.checkpoints.folder / saved.file, allow_pickle=False) as arrays:
            return predict(values, dict(arrays), self.context, self.context.test)
