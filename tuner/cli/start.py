"""`tlstudy init`, and which study a `tlstudy search` or `tlstudy plan` is about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from tuner.cli import options
from tuner.cli.console import out, short, status
from tuner.errors import StudyError, UsageError
from tuner.report.words import listed, several, visible
from tuner.spec import presets
from tuner.spec import spec as specs
from tuner.spec.spec import Spec
from tuner.store import locate as studies
from tuner.store.folder import StudyFolder
from tuner.store.options import Resolved, place
from tuner.study import Study, look_and_write


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
    preset: Annotated[
        str, typer.Option(help="How much is searched: quick, default or thorough; other options win over it.")
    ] = "default",
    groups: Annotated[
        str | None,
        typer.Option(
            help='Which images belong together: a table, a regular expression or "folders".', show_default="none"
        ),
    ] = None,
    allow_leak: Annotated[
        bool, typer.Option("--allow-leak", help="Go on although a photograph stands in two splits.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse any file that cannot be used.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", help="Enter folders inside class folders.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing study.toml.")] = False,
) -> None:
    """Looks at a folder of photographs and writes studies/NAME/study.toml, every key explained."""
    asked = options.changes(
        image_size=image_size,
        weights=weights,
        groups=groups,
        allow_leak=allow_leak,
        strict=strict,
        recursive=recursive,
    )
    changes = {**presets.preset(preset), **asked}
    name = studies.name_for(photos.absolute()) if name is None else _checked_name(name)
    folder = StudyFolder(Path.cwd() / studies.STUDIES / name)
    if folder.spec.exists() and not force:
        raise UsageError(
            f"{short(folder.spec)} exists and is kept. Choose another --name"
            + (": the results beside it answer it." if folder.has_results else ", or overwrite it with --force.")
        )
    dataset = _write_study(folder, photos, changes)
    lines = []
    if dataset is not None:  # images that the search draws are not there yet
        lines = _counts(dataset)
        lines += [f"  left out: {visible(x.path)} ({visible(x.reason)})" for x in dataset.left_out]
        lines += [f"  not counted: {dataset.ignored} hidden or system files"] * bool(dataset.ignored)
        lines += [f"Warning: {visible(warning)}" for warning in dataset.warnings]
    lines.append(f"Wrote {short(folder.spec)}. Next: tlstudy search {folder.root.name}")
    for line in lines:
        out().print(Text(line))


def _checked_name(name: str) -> str:
    if name != studies.name_for(Path(name)):
        raise UsageError(
            f"--name {name!r}: expected letters, digits, - and _ only, at most {studies.LONGEST_NAME} of them, such as "
            f"{studies.name_for(Path(name))}."
        )
    return name


def _write_study(folder: StudyFolder, images: Path, changes: dict[str, Any]) -> Any:
    """Checks the weights' names and the images as a search would (what is decoded is kept for it), then writes
    study.toml.
    """
    from tuner.backbones.weights import check_named

    check_named(Spec().override(changes).backbone.weights, folder.root)
    with status("Looking at the photographs"):
        return look_and_write(folder, images, changes)


def _counts(dataset: Any) -> list[str]:
    lines = [f"Found {len(dataset.records)} photographs in {len(dataset.classes)} classes."]
    groups = dataset.group_counts()
    for split, counts in dataset.counts().items():
        line = f"  {split:<6}" + listed([f"{visible(name)} {n}" for name, n in counts.items()], most=12)
        lines.append(line + (f" in {several(groups[split], 'group')}" if groups else ""))
    return lines


def study_meant(
    study: str | None, data: Path | None, changes: dict[str, Any], console: Console, *, write: bool
) -> tuple[StudyFolder, dict[str, Any], Spec | None]:
    """The study that STUDY and --data mean, told on `console`, and what is still to be changed of its study.toml.

    With --data and no STUDY it is the one under studies/ about these images. `write`: a study that is not there yet is
    written, else the spec that it would have is returned too.
    """
    if data is not None and study is None:
        return _study_about(place(data), changes, console, write=write)
    located = studies.locate(study, Path.cwd())
    folder = located.folder
    console.print(Text(f"Study {short(folder.root)} ({located.why})."))
    if data is not None:
        changes = changes | {"data.path": str(place(data))}
    if not write:
        new = located.is_demo and not folder.spec.exists()
        return folder, changes, studies.demo_spec().override(changes) if new else None
    if folder.root.name == "demo" and studies.write_demo(folder):
        console.print(Text(f"Wrote {short(folder.spec)}."))
    if located.is_demo:
        console.print(Text("The demo's photographs are drawings made here. Yours: tlstudy search --data photos/"))
    return folder, changes, None


def _study_about(
    path: Path, changes: dict[str, Any], console: Console, *, write: bool
) -> tuple[StudyFolder, dict[str, Any], Spec | None]:
    """As `study_meant`, for the images at an absolute path."""
    folder = _folder_about(path)
    if folder.spec.exists():
        console.print(Text(f"Study {short(folder.root)} (the one about {short(path)})."))
        return folder, changes, None
    if not write:
        from tuner.backbones.weights import check_named

        spec = Spec().override({"data.path": str(path)} | changes)
        check_named(spec.backbone.weights, folder.root)
        console.print(Text(f"Study {short(folder.root)} (new; a search writes it)."))
        return folder, changes, spec
    dataset = _write_study(folder, path, changes)
    for line in (f"Study {short(folder.root)} (new: wrote {short(folder.spec)}).", *_counts(dataset)):
        console.print(Text(line))
    return folder, {}, None  # the changes stand in the new file


def _folder_about(path: Path) -> StudyFolder:
    """The study under studies/ about the images at this absolute path, or the folder for a new one."""
    base = studies.name_for(path)
    for number in range(1, 1000):
        folder = StudyFolder(Path.cwd() / studies.STUDIES / (base if number == 1 else f"{base}-{number}"))
        if not folder.spec.exists():
            return folder
        if (folder.root / specs.load(folder.spec).data.path).resolve() == path.resolve():
            return folder
    raise StudyError(f"{base}: a thousand studies of this name; name one of them.")


def resolve(folder: StudyFolder, changes: dict[str, Any], console: Console, *, fresh: bool = False) -> Resolved:
    """study.toml with the changes on top; a resumed study keeps those it was started with, and says so."""
    resolved = Study(folder).resolve(changes, fresh=fresh)
    for text, given in (
        ("Started again without the options of the old results", resolved.dropped),
        ("Going on with the options it was started with", resolved.kept),
    ):
        if given:
            console.print(Text(f"{text}: {', '.join(f'{k} = {v}' for k, v in given.items())}."))
    return resolved
