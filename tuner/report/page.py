"""The report as one HTML file: everything embedded, nothing fetched, every name from outside only ever text.

The template places what `sections`, `plots` and `gallery` say. Style and script stand in the page and are allowed by
their hashes alone, so that nothing which got in by a name could run.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tuner import __version__
from tuner.artifacts.files import write_atomically
from tuner.evidence.findings import Findings
from tuner.evidence.results import Results
from tuner.report import duel, facts, gallery, plots, sections, verdict, words

HERE = Path(__file__).parent
NAME = "index.html"
FIGURES = {
    "rate_by_depth": "Learning rate by unfrozen depth, coloured by validation loss",
    "parallel_coordinates": "Every configuration as a line across its hyperparameters to its loss and accuracy",
    "views": "What the network saw: training images, plain and as augmentation has them",
}
"""The figures that the page embeds as images, with what they show; the others it draws itself."""


def write(
    results: Results,
    root: Path,
    folder: Path,
    *,
    findings: Findings | None = None,
    importance: pd.DataFrame | None = None,
) -> Path:
    """Writes `folder/index.html` for the study in the folder `root`, whole or not at all, and returns its path.

    Embeds the figures that `figures.draw_all` has put into `folder`.
    """
    text = page(results, root, findings=findings, importance=importance, figures=embedded(folder))
    path = folder / NAME
    write_atomically(path, lambda file: file.write(text.encode(errors="backslashreplace")))
    return path


def page(
    results: Results,
    root: Path,
    *,
    findings: Findings | None = None,
    importance: pd.DataFrame | None = None,
    figures: dict[str, str] | None = None,
) -> str:
    """The whole page as HTML. The same results and images give the same text.

    `importance`: what each hyperparameter explains, as `Results.importance` has it. `figures`: data: URLs by the
    names in `FIGURES`.
    """
    style, script = _own("page.css"), _own("page.js")
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            version=__version__,
            policy=policy(style, script),
            style=style,
            script=script,
            name=words.visible(root.resolve().name),
            study=results.study,
            subtitle=sections.subtitle(results),
            recommendation=results.recommendation(findings),
            headline=_headline(results, findings),
            evidence=verdict.evidence(findings, results.study.rule) if findings is not None else [],
            sides=verdict.sides(results, findings),
            side_labels=verdict.LABELS,
            interval=verdict.interval(findings.compared) if findings is not None and findings.compared else "",
            duel=duel.of_findings(findings) if findings is not None else [],
            depth_panels=plots.of_depth(results),
            learning_panels=plots.of_learning(results),
            rung_panels=plots.of_rungs(results),
            matrices=sections.matrices(results),
            gallery=gallery.gallery(results, root),
            table=sections.configurations(results),
            csv=_url("text/csv", results.to_csv().encode(errors="backslashreplace")),
            importance=sections.importance(importance),
            importance_lines=facts.importance_lines(importance) if importance is not None and len(importance) else [],
            depths=sections.depths(results),
            phases=sections.phases(results),
            time_line=facts.time_line(results),
            time_by_depth=sections.time_by_depth(results),
            rungs=sections.rungs(results),
            warnings=facts.warning_lines(results, findings),
            facts=facts.study_lines(results),
            again=sections.again(results),
            figures=[(about, (figures or {})[name]) for name, about in FIGURES.items() if name in (figures or {})],
        )
    )


def embedded(folder: Path) -> dict[str, str]:
    """The drawn figures in `folder` as data: URLs, of PNG and SVG the smaller one."""
    found = {}
    for name in FIGURES:
        drawn = [path for kind in KINDS if (path := folder / f"{name}.{kind}").exists()]
        if drawn:
            smallest = min(drawn, key=lambda path: path.stat().st_size)
            found[name] = _url(KINDS[smallest.suffix[1:]], smallest.read_bytes())
    return found


def policy(style: str, script: str) -> str:
    """The content security policy: images from inside the page, this style and this script, and nothing else."""
    rules = ("default-src 'none'", "img-src data:", f"style-src '{_hash(style)}'", f"script-src '{_hash(script)}'")
    return "; ".join((*rules, "base-uri 'none'", "form-action 'none'"))


def _headline(results: Results, findings: Findings | None) -> dict[str, Any]:
    """The verdict as the page shows it: its kind, its sentence and the lines under it."""
    if verdict.is_reached(findings):
        return {
            "kind": findings.kind.replace(" ", "-"),
            "label": verdict.KINDS.get(findings.kind, findings.kind),
            "sentence": findings.sentence,
            "lines": [] if results.study.pretrained else [facts.NO_PRETRAINING],
            "ground": verdict.ground(findings),
        }
    first, *rest = facts.headline(results).splitlines()
    ground = verdict.unconfirmed(findings) if results.winner() is not None else ""
    return {"kind": "open", "label": verdict.KINDS["open"], "sentence": first, "lines": rest, "ground": ground}


def _commands(text: str) -> Markup:
    """The text, what stands between backticks in it as code; everything else is escaped as ever."""
    return Markup(re.sub("`([^`<>]+)`", r"<code>\1</code>", str(escape(words.visible(text)))))


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["commands"] = _commands
    return made


def _finalized(value: Any) -> Any:
    """What would steer or hide, such as the marks that turn writing round, is written out in every name."""
    return words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _own(name: str) -> Markup:
    """A file of this package, which needs no escaping."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64," + base64.b64encode(data).decode()


KINDS = {"png": "image/png", "svg": "image/svg+xml"}
