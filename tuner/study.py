"""The study from Python: the same tables, figures and model as the command line's, for notebooks and scripts.

    from tuner import Study

    study = Study.create("photos", max_epochs=9)      # or Study.open("studies/demo")
    study.search(progress=print)
    study.verdict, study.configurations, study.figure("depth")
    study.export("model.keras")

Nothing here prints. Keras is imported by `search` and `export` alone, matplotlib by the figures.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.artifacts.files import cache_root, home, write_atomically
from tuner.backbones.architecture import Architecture, architecture
from tuner.errors import StudyError, TlstudyError, UsageError
from tuner.spec import presets, values
from tuner.spec import spec as specs
from tuner.spec.spec import Spec
from tuner.store import locate as studies
from tuner.store.folder import StudyFolder
from tuner.store.options import Resolved, asked, dotted, from_here, place, resolve

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from tuner.evidence.findings import Findings
    from tuner.evidence.recommendation import Recommendation
    from tuner.evidence.results import Results
    from tuner.export.checking import Exported
    from tuner.images.dataset import Dataset
    from tuner.report.own_axes import Panels
    from tuner.search.events import Event
    from tuner.search.planning import Plan

COMMAND = "tuner.Study.search"
"""What the store notes as the command of a session that was started from Python."""


class Study:
    """A study folder: its question, its search and what came out.

    The tables are read together at the first use, so they fit each other; `refresh` reads again, for a study that
    another process is searching. They are copies: changing them changes nothing here. Every method raises a subclass of
    `tuner.errors.TlstudyError` whose message says what to do next.
    """

    def __init__(self, folder: StudyFolder) -> None:
        self._folder = folder
        self._results: Results | None = None

    # ---- which study ----

    @classmethod
    def open(cls, study: str | os.PathLike[str] | None = None) -> Study:
        """The study that STUDY means on the command line: a folder, its study.toml, or a name under studies/.

        None: the study in the working folder, else the only or most recently touched one under studies/, else the demo.
        Raises StudyError naming what there is.
        """
        return cls(studies.locate(None if study is None else os.fspath(study), Path.cwd()).folder)

    @classmethod
    def create(
        cls,
        photos: str | os.PathLike[str],
        study: str | os.PathLike[str] | None = None,
        *,
        preset: str = "default",
        **options: Any,
    ) -> Study:
        """A new study about a folder or .zip of photographs; they are looked at, then study.toml is written.

        `study`: a name under studies/ (by default the photographs') or a path to a folder. `options`: any keys of
        study.toml, such as `max_epochs=9` or `unfrozen_layers=[0, 10]`; a range is `{"min": 1e-5, "max": 1e-2}`.
        `preset`: "quick", "default" or "thorough", the other keys (`tuner.spec.presets`).
        Doing the same again opens the study that is there. Raises UsageError when another question stands there,
        DataError for photographs that cannot be used, SpecError for an option.
        """
        folder = StudyFolder(_folder_for(studies.name_for(place(photos)) if study is None else study))
        changes = {**presets.preset(preset), **dotted(options)}
        if not folder.spec.exists():
            look_and_write(folder, photos, changes)
            return cls(folder)
        wanted = _about(folder, photos, changes)
        if different := specs.differences(asked(folder), wanted, all_keys=True):
            raise UsageError(
                f"{folder.spec} asks another question and is kept:\n  "
                + "\n  ".join(different)
                + f'\nOpen it with Study.open("{folder.root}"), or give the new one another name or folder.'
            )
        return cls(folder)

    @property
    def path(self) -> Path:
        """The study's folder."""
        return self._folder.root

    @property
    def name(self) -> str:
        return self._folder.root.name

    @property
    def question(self) -> Spec:
        """study.toml as it stands now; `results.study.spec` is what was searched."""
        return asked(self._folder)

    # ---- searching ----

    def search(
        self,
        *,
        progress: Callable[[str], object] | None = None,
        listen: Callable[[Event], object] | None = None,
        confirm: bool = True,
        extend: bool = False,
        fresh: bool = False,
        stop: threading.Event | None = None,
        **options: Any,
    ) -> Study:
        """Runs the study, or goes on with it where it stopped, and returns it; what has finished is not done again.

        `progress` gets a line of text for every step worth one (`progress=print`), `listen` every event of
        `tuner.search.events`. `options`: changes to study.toml, as in `create`, that are kept with the results.
        `confirm`: at the end winner and baseline are trained again from fresh seeds, for the verdict. `extend`: goes on
        with more `hyperband_iterations` or a wider space. `fresh`: old results are moved to previous/ first. Ctrl-C, or
        setting `stop` from another thread, stops after the current epoch and raises Interrupted; a second Ctrl-C leaves
        at once. Either way call `search` again to go on to the same result.
        """
        if self._folder.root.name == "demo":
            studies.write_demo(self._folder)
        how = {"confirm": confirm, "extend": extend, "fresh": fresh}
        return self._run(self.resolve(from_here(dotted(options)), fresh=fresh), progress, listen, stop, **how)

    def confirm(
        self,
        *,
        seeds: int | None = None,
        progress: Callable[[str], object] | None = None,
        listen: Callable[[Event], object] | None = None,
        stop: threading.Event | None = None,
    ) -> Study:
        """The end of `search` alone: winner and baselines again from fresh seeds, then the test set is opened. `seeds`:
        of each side; those that were trained before are among them, and stay where fewer are asked for.
        """
        if not self._folder.has_results:
            raise StudyError(f"{self.path}: no results yet. Run: study.search()")
        changes = {} if seeds is None else {"confirm.seeds": seeds}
        return self._run(self.resolve(changes), progress, listen, stop, search=False)

    def resolve(self, changes: Mapping[str, Any], *, fresh: bool = False) -> Resolved:
        """study.toml with dotted changes on top; a resumed study keeps those it was started with, a fresh one not."""
        return resolve(self._folder, changes, fresh)

    def session(
        self,
        resolved: Resolved,
        listen: Callable[[Event], object],
        stop: threading.Event,
        *,
        command: str,
        **how: bool,
    ) -> None:
        """One session of the search, for whoever minds signals himself; `how`: the fields of `search.session.How`."""
        from tuner.search import session

        try:
            session.run(
                self._folder,
                resolved.spec,
                listen,
                stop,
                command=command,
                overrides=resolved.changes,
                how=session.How(**how),
            )
        finally:
            self.refresh()

    def _run(
        self,
        resolved: Resolved,
        progress: Callable[[str], object] | None,
        listen: Callable[[Event], object] | None,
        stop: threading.Event | None,
        **how: bool,
    ) -> Study:
        """A session with Ctrl-C minded."""
        # Only here: these import what a search needs.
        from tuner.report.live import lines_to
        from tuner.search.stopping import on_signals

        stop, line = stop or threading.Event(), progress or (lambda _text: None)

        def notice() -> None:
            line("Stopping after this epoch; interrupt once more to leave at once.")

        with on_signals(stop, (signal.SIGINT,), notice, go_on=lambda: " Go on by calling it again."):
            self.session(resolved, lines_to(line, listen), stop, command=COMMAND, **how)
        return self

    def plan(self, resolved: Resolved | None = None, *, confirm: bool = True, **how: Any) -> Plan:
        """What a search will train and take on this machine; trains nothing and writes no study.

        `how`: what `tuner.search.planning.plan` takes besides. Raises what a search would.
        """
        from tuner.search import planning

        return planning.plan(self._folder, (resolved or self.resolve({})).spec, confirm=confirm, **how)

    # ---- what came out ----

    @property
    def results(self) -> Results:
        """Everything the store held when it was read. Raises StudyError while there is nothing."""
        if self._results is None:
            from tuner.evidence.results import Results

            if not self._folder.has_results:
                raise StudyError(f"{self.path}: no results yet. Run: study.search()")
            self._folder.check()
            self._results = Results.open(self._folder.database, running=self._folder.is_running(), costs=_architecture)
        return self._results

    def refresh(self) -> Study:
        """Forgets what was read; the next use reads the store again."""
        self._results = None
        return self

    @property
    def state(self) -> str:
        """ "finished", "running", "interrupted" or "not started"."""
        return self.results.study.state if self._folder.has_results else "not started"

    @property
    def verdict(self) -> Findings:
        """What the study may claim, with its evidence, as plain values; `kind` is "open" while it is not confirmed."""
        return self.results.findings()

    @property
    def recommendation(self) -> Recommendation | None:
        """Which of winner and baseline to use, why and at what cost; None while neither has a finished epoch."""
        return self.results.recommendation()

    @property
    def configurations(self) -> pd.DataFrame:
        """One row a configuration of every kind, best first; see `Results.configurations` for the columns."""
        return self.results.ranking(None)

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial, in the order they were started."""
        return self.results.trials()

    @property
    def epochs(self) -> pd.DataFrame:
        """One row an epoch of a configuration, with its hyperparameters."""
        return self.results.epochs()

    @property
    def depths(self) -> pd.DataFrame:
        """One row a depth of the space: how many were tried and finished, and the best one there."""
        return self.results.depths()

    @property
    def rungs(self) -> pd.DataFrame:
        """One row a rung of Hyperband's plan, with how many configurations ended there and which went on."""
        return self.results.rungs()

    @property
    def photographs(self) -> pd.DataFrame:
        """One row a validation photograph: its class, and what the best configuration and the baseline said."""
        return self.results.images()

    @property
    def winner(self) -> pd.Series | None:
        """The best searched configuration; None while none has a finished epoch."""
        return self.results.winner()

    @property
    def baseline(self) -> pd.Series | None:
        """The best frozen configuration, found under the same budget; None while none has a finished epoch."""
        return self.results.baseline()

    @property
    def reference(self) -> pd.Series | None:
        """The tutorial's recipe: frozen, no hidden head layer, Adam 1e-3."""
        return self.results.reference()

    def predictions(self, configuration: str) -> pd.DataFrame:
        """Class probabilities of a configuration's best epoch: a row a validation photograph, a column a class.

        Raises UsageError when there is no such configuration, or none are stored for it.
        """
        import pandas as pd

        results = self.results
        found = results.predictions(configuration)
        if found is None:
            known = ", ".join(results.ranking(None)["id"].head(8))
            raise UsageError(f"{configuration}: no predictions are stored for it. Configurations here: {known} ...")
        photographs = pd.Index(results.images()["photograph"], name="photograph")
        return pd.DataFrame(found, index=photographs, columns=list(results.study.classes))

    # ---- figures ----

    def figure(self, name: str) -> Figure:
        """A whole figure of the report: learning_curves, depth, rate_by_depth, parallel_coordinates, brackets, ...

        A notebook shows it; `savefig` writes it. Raises UsageError for an unknown name, StudyError with the reason
        when the study has not got what it shows.
        """
        from tuner.report import figures, style

        if name not in figures.FIGURES:
            raise UsageError(f"figure {name!r}: expected one of {', '.join(figures.FIGURES)}.")
        with style.applied():
            return figures.FIGURES[name](self.results)

    @property
    def plot(self) -> Panels:
        """The figures' panels on an ax of your own: `study.plot.depth(ax)`; see `tuner.report.own_axes.Panels`."""
        from tuner.report.own_axes import Panels

        return Panels(self.results)

    # ---- the model ----

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        which: str = "recommended",
        baseline: bool = False,
        refit: bool = False,
        force: bool = False,
        progress: Callable[[str], object] | None = None,
    ) -> Exported:
        """Writes a model file, and its model card beside it: of the recommended configuration, or of the winner or the
        frozen baseline. `which`: "recommended", "winner" or "baseline"; `baseline=True` is another way to say the last.

        It is loaded again in a process of its own and compared with the stored predictions before it is put in place;
        what that found is returned. `format`: keras, savedmodel, onnx or litert, else by the ending. `refit`: trained
        on train and validation together, so that no image is left to judge it by, for as many epochs as the folds of
        its cross-validation took to their best (the median). `force`: an existing file is replaced. `progress` gets a
        line of text for every step. Raises UsageError, ExportError.
        """
        from tuner.evidence.recommendation import exported
        from tuner.export import checking
        from tuner.export.formats import card_path, writable
        from tuner.export.study import candidate
        from tuner.report.card import card

        def say(text: str) -> None:
            if progress:
                progress(text)

        target, results, use = home(path), self.results, self.recommendation
        which = _which(which, baseline, use)
        baseline = which == "baseline"
        kind = writable(target, format, force)
        found = candidate(self._folder, results, target, kind=kind, baseline=baseline, refit=refit, say=say)
        done = checking.export([found], force=force, say=say)[0]
        if use is not None:
            say(exported(use, which, self.verdict))
        verdict = None if self.verdict.kind == "open" else self.verdict.sentence
        text = card(results, done, study=_as_typed(self.path), baseline=baseline, verdict=verdict)
        write_atomically(card_path(target), lambda file: file.write(text.encode(errors="backslashreplace")))
        return done

    # ---- as a text ----

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r}, {self._said()})"

    def _repr_html_(self) -> str:
        from tuner.report import cell

        return cell.card(self.name, self.results) if self._folder.has_results else cell.empty(self.name)

    def _said(self) -> str:
        """The study in a line; a text must not fail where the store does."""
        from tuner.report import cell

        try:
            return cell.line(self.results) if self._folder.has_results else "no results yet"
        except TlstudyError as error:
            return str(error)


def _which(asked: str, baseline: bool, use: Recommendation | None) -> str:
    """ "winner" or "baseline", as `Study.export` was asked. Raises UsageError."""
    if asked not in ("recommended", "winner", "baseline"):
        raise UsageError(f'which: found {asked!r}, expected "recommended", "winner" or "baseline".')
    if baseline and asked == "winner":
        raise UsageError('export: which="winner" and baseline=True name two models: leave out one of them.')
    if baseline or asked != "recommended":
        return "baseline" if baseline else asked
    return "winner" if use is None else use.which


def _architecture(spec: Spec) -> Architecture:
    """The backbone of a study, which knows what its depths cost."""
    return architecture(image_size=spec.data.image_size)


def look_and_write(folder: StudyFolder, images: str | os.PathLike[str], changes: Mapping[str, Any]) -> Dataset | None:
    """Checks the images as a search would (what is decoded is kept for it), then writes study.toml.

    `changes`: dotted keys; paths count from the working folder. None for `drawn:` images, which the search draws.
    Raises DataError, SpecError; StudyError when the folder cannot be written.
    """
    from tuner.images.dataset import prepare

    spec, dataset = _about(folder, images, changes), None
    if not spec.data.path.startswith(studies.DRAWN):
        seen = replace(spec.data, path=str(place(images)))
        dataset = prepare(seen, folder.root, cache_root(), spec.search.seed)
    studies.write_study(
        folder, spec, f"The study {folder.root.name}: change what you like, then `tlstudy search {folder.root.name}`."
    )
    return dataset


def _about(folder: StudyFolder, images: str | os.PathLike[str], changes: Mapping[str, Any]) -> Spec:
    """The spec, its data and table of groups named as study.toml names them: relative where both move together."""
    text = os.fspath(images)
    path = text if text.startswith(studies.DRAWN) else studies.written_path(place(text), folder.root)
    found = {"data.path": path} | from_here(changes)
    table = values.TABLE.fullmatch(str(found.get("data.groups", "")))
    if table is not None and os.path.isabs(table["file"]):
        file, column = Path(table["file"]), table["column"]
        found["data.groups"] = studies.written_path(file, folder.root) + (f":{column}" if column else "")
    return Spec().override(found)


def _folder_for(study: str | os.PathLike[str]) -> Path:
    """A plain name means a folder under studies/, as on the command line; anything else is a path."""
    text = os.fspath(study)
    if isinstance(study, str) and text == studies.name_for(Path(text)):
        return Path.cwd() / studies.STUDIES / text
    return place(text)


def _as_typed(folder: Path) -> str:
    """How a user in the working folder names it on the command line."""
    relative = os.path.relpath(folder)
    return str(folder) if relative.startswith(os.path.join(os.pardir, os.pardir)) else relative
