"""`tlstudy init` and the study a `tlstudy search` is about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tuner.cli.console import out, short, status
from tuner.cli.options import only_given
from tuner.errors import StudyError, UsageError
from tuner.spec import spec as specs
from tuner.store import locate as studies
from tuner.store.folder import StudyFolder
from tuner.store.options import from_here, place


def init(
    photos: Annotated[
        Path, typer.Argument(help="Folder or .zip of photographs, a folder per class.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="The study's name under studies/.", show_default="the folder's name")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help='"imagenet", a weights file, or "random".', show_default="imagenet")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Pixels.", show_default="224")] = None,
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Go on although a photograph stands in two splits.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse any file that cannot be used.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", help="Enter folders inside class folders.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing study.toml.")] = False,
) -> None:
    """Looks at a folder of photographs and writes studies/NAME/study.toml, every key explained."""
    changes: dict[str, Any] = {
        "data.image_size": image_size,
        "backbone.weights": weights,
        "data.allow_leak": allow_leak or None,
        "data.strict": strict or None,
        "data.recursive": recursive or None,
    }
    folder = StudyFolder(
        Path.cwd() / studies.STUDIES / _checked_name(studies.name_for(photos.absolute()) if name is None else name)
    )
    if folder.spec.exists() and not force:
        raise UsageError(
            f"{short(folder.spec)} exists and is kept. Choose another --name, or overwrite it with --force."
        )
    dataset = _write_study(folder, photos, changes)
    console = out()
    for line in _found(dataset):
        console.print(Text(line))
    console.print(Text(f"Wrote {short(folder.spec)}. Next: tlstudy search {folder.root.name}"))


def _write_study(folder: StudyFolder, photos: Path, changes: dict[str, Any]) -> Any:
    """Checks the weights' names and the photographs as a search would (what is decoded is kept for it), then writes
    study.toml.
    """
    from tuner.backbones.weights import check_named
    from tuner.study import look_and_write

    asked = specs.Spec().override(from_here(only_given(changes)))
    check_named(asked.backbone.weights, folder.root)
    with status("Looking at the photographs"):
        return look_and_write(folder, photos, only_given(changes))


def _found(dataset: Any) -> list[str]:
    """The counts, and what a search would say of these photographs."""
    from tuner.report.words import visible

    lines = _counts(dataset)
    lines += [f"  left out: {visible(x.path)} ({visible(x.reason)})" for x in dataset.left_out]
    lines += [f"  not counted: {dataset.ignored} hidden or system files"] * bool(dataset.ignored)
    return lines + [f"Warning: {visible(w)}" for w in dataset.warnings]


def _counts(dataset: Any) -> list[str]:
    from tuner.report.words import listed, visible

    lines = [f"Found {len(dataset.records)} photographs in {len(dataset.classes)} classes."]
    for split, counts in dataset.counts().items():
        lines.append(f"  {split:<6}" + listed([f"{visible(name)} {n}" for name, n in counts.items()], most=12))
    return lines


def _checked_name(name: str) -> str:
    if name != studies.name_for(Path(name)):
        raise UsageError(
            f"--name {name!r}: expected letters, digits, - and _ only, at most {studies.LONGEST_NAME} of them, such as "
            f"{studies.name_for(Path(name))}."
        )
    return name


def study_for(study: str | None, data: Path | None, changes: dict[str, Any]) -> StudyFolder:
    """The study to search: with --data and no STUDY the one under studies/ about these photographs, new if need be."""
    if data is None or study is not None:
        located = studies.locate(study, Path.cwd())
        out().print(Text(f"Study {short(located.folder.root)} ({located.why})."))
        if located.folder.root.name == "demo" and studies.write_demo(located.folder):
            out().print(Text(f"Wrote {short(located.folder.spec)}."))
        if located.is_demo:
            out().print(Text("The demo's photographs are drawings made here. Yours: tlstudy search --data photos/"))
        if data is not None:
            changes["data.path"] = str(place(data))
        return located.folder
    path = place(data)
    folder = about(path)
    if not folder.spec.exists():
        dataset = _write_study(folder, path, dict(changes))
        out().print(Text(f"Study {short(folder.root)} (new: wrote {short(folder.spec)})."))
        for line in _counts(dataset):
            out().print(Text(line))
        changes.clear()  # they stand in the new file now
    else:
        out().print(Text(f"Study {short(folder.root)} (the one about {short(path)})."))
    return folder


def about(path: Path) -> StudyFolder:
    """The study under studies/ about the photographs at this absolute path, or the folder for a new one."""
    base = studies.name_for(path)
    for number in range(1, 1000):
        folder = StudyFolder(Path.cwd() / studies.STUDIES / (base if number == 1 else f"{base}-{number}"))
        if not folder.spec.exists():
            return folder
        if (folder.root / specs.load(folder.spec).data.path).resolve() == path.resolve():
            return folder
    raise StudyError(f"{base}: a thousand studies of this name; name one of them.")
