"""The model card beside an exported model: what it is, what it was measured on, what it must not be taken for.

Markdown. Every name in it is escaped, so that a class called `<script>` or `| a |` stays text.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tuner.evidence.recommendation import exported as exported_sentence
from tuner.evidence.results import Results
from tuner.evidence.statistics import wilson
from tuner.evidence.study import Study
from tuner.export.formats import recipe
from tuner.export.sums import told
from tuner.report import words
from tuner.report.words import Row
from tuner.spec.spec import render
from tuner.store import ids

if TYPE_CHECKING:
    from tuner.export.checking import Exported

MOST = 20  # left-out files that are listed by name
FEW = 100  # validation images below which the card warns

WEIGHTS = {
    "imagenet": "The backbone began with Keras's ImageNet weights for ResNet-50. Keras has said of them that they were "
    "ported from the ones Kaiming He released under the MIT licence; the photographs of ImageNet have terms of their "
    "own. Whether your use is allowed is yours to check.",
    "random": "The backbone began with random weights: nobody's licence applies to them.",
    "file": "The backbone began with the weights in the file {name}. Their licence is not known to this program; "
    "whether your use is allowed is yours to check.",
}


CODE = {
    "keras": """\
import keras, numpy as np
from PIL import Image, ImageOps

model = keras.models.load_model(FILE)
classes = model.get_layer("classes").bias_initializer.value
photograph = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
print(classes, model.predict(np.asarray(photograph)[None]))
""",
    "savedmodel": """\
import json, numpy as np, tensorflow as tf
from PIL import Image, ImageOps

model = tf.saved_model.load(FILE)
classes = json.load(open(FILE + "/assets.extra/tlstudy.json"))["classes"]
photograph = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
print(classes, model.serve(np.asarray(photograph, np.float32)[None]))
""",
    "onnx": """\
import json, numpy as np, onnxruntime
from tuner.images.decode import load_photograph, to_square

session = onnxruntime.InferenceSession(FILE)
about = json.loads(session.get_modelmeta().custom_metadata_map["tlstudy"])
square = to_square(load_photograph("photo.jpg"), about["image_size"], about["resize"])
print(about["classes"], session.run(None, {"square": square[None].astype(np.float32)})[0])
""",
    "litert": """\
import json, zipfile, numpy as np
from ai_edge_litert.interpreter import Interpreter
from tuner.images.decode import load_photograph, to_square

about = json.loads(zipfile.ZipFile(FILE).read("tlstudy.json"))
square = to_square(load_photograph("photo.jpg"), about["image_size"], about["resize"])
answer = Interpreter(model_path=FILE).get_signature_runner()(square=square[None].astype(np.float32))
print(about["classes"], answer["output_0"])
""",
}


def card(
    results: Results, exported: Exported, *, study: str, baseline: bool = False, verdict: str | None = None
) -> str:
    """The whole card as Markdown text. study: how the user names the study. verdict: the study's, where it has one."""
    table = results.configurations().set_index("id", drop=False)
    row = table.loc[exported.configuration].to_dict()
    what = "frozen baseline" if baseline else "best configuration"
    classes = exported.contents.classes
    about = (
        f"A ResNet-50 that sorts photographs into {len(classes)} classes, the {what} of a `tlstudy` study: "
        f"{plain(words.configuration(row))}."
    )
    sections = {
        "Use": _usage(exported, results.study),
        "Classes": bullets(map(plain, classes)),
        "Data": _data(results.study),
        "Configuration": _configuration(row, results.study, exported),
        "Measured": _measured(results, row, exported, verdict),
        "Limits": bullets(_limits(results.study, row, exported, baseline)),
        "Check of this file": _check(exported),
        "Weights and licences": _weights(results.study),
        "Made with": plain(", ".join(f"{k} {v}" for k, v in exported.versions.items())) + ".",
        "Make it again": _reproduce(results.study, exported, study, baseline),
    }
    use = results.recommendation()
    if use is not None:
        told = exported_sentence(use, "baseline" if baseline else "winner", results.findings())
        sections = {"Which model to use": " ".join(map(plain, (*use.sentences, told)))} | sections
    parts = [f"# Model card: {plain(exported.path.name)}", about]
    return "\n\n".join([*parts, *(f"## {heading}\n\n{text}" for heading, text in sections.items())]) + "\n"


# ---- sections ----


def _usage(exported: Exported, study: Study) -> str:
    """What goes in and comes out, as Markdown; `tlstudy predict` comes first because it does all of it."""
    side, name = exported.contents.image_size, exported.path.name
    if exported.kind.squares:
        takes = (
            f"Takes `square`, float32 (batch, {side}, {side}, 3): RGB from 0 to 255. It does not resize: "
            f"{recipe(exported.contents)}. `tlstudy predict` does this, and so do `load_photograph` and `to_square` in "
            "the lines below."
        )
    else:
        dtype = "uint8 or float32" if exported.kind.name == "keras" else "float32"
        takes = (
            f"Takes {dtype} (batch, height, width, 3): RGB from 0 to 255, upright, of any size. It resizes to "
            f"{side} x {side} pixels and preprocesses itself."
        )
    gives = (
        f"Gives float32 (batch, {len(exported.contents.classes)}): the probability of each class, in the order below."
    )
    if study.spec.search.mirrored:
        gives += " It is the mean over the image and its mirror image, which the file makes itself."
    command, code = f"tlstudy predict {shlex.quote(name)} photo.jpg", CODE[exported.kind.name]
    return "\n\n".join([f"{takes} {gives}", fenced(command), fenced(code.replace("FILE", repr(name)), "python")])


def _data(study: Study) -> str:
    splits = list(study.counts)
    rows = [[plain(name), *(f"{study.counts[split][i]:,}" for split in splits)] for i, name in enumerate(study.classes)]
    rows.append(["together", *(f"{sum(study.counts[split]):,}" for split in splits)])
    if study.groups_of:
        rows.append(["in groups", *(f"{len(set(study.groups_of.get(split, ()))):,}" for split in splits)])
    left_out = ["No file was left out."]
    if study.left_out:
        some = [f"{plain(path)}: {plain(reason)}" for path, reason in study.left_out[:MOST]]
        more = [f"and {len(study.left_out) - MOST} more"] if len(study.left_out) > MOST else []
        left_out = [f"{words.several(len(study.left_out), 'file')} left out:", bullets([*some, *more])]
    squares = f"Each was made a square of {study.spec.data.image_size} pixels by `{study.spec.data.resize}`."
    return "\n\n".join([table(["photographs", *splits], rows), *left_out, squares])


def _configuration(row: Row, study: Study, exported: Exported) -> str:
    names = [name for name in words.NAMES if name in row and not name.startswith("val_")]
    rows = [[words.NAMES[name], words.hyperparameter(name, row[name])] for name in names]
    rows.append(["optimizer", f"{study.spec.search.optimizer}, batches of {study.spec.search.batch_size}"])
    rows.append(["BatchNorm", study.spec.backbone.batch_norm])
    rows.append(["trained parameters", words.amount(row["trained_parameters"])])
    if exported.refit is None:
        chosen = "the best by validation" if study.rule.checkpoint == "best" else "the last"
        both = words.missing(row["val_loss"])  # a regression that needed no validation images
        fitted = "fitted to training and validation photographs"
        rows.append(["weights", fitted if both else f"of epoch {row['best_epoch']} of {row['epochs']}, {chosen}"])
    else:
        rows.append(["weights", f"of epoch {exported.refit.epochs} of the refit, the last"])
    return table(["", ""], rows)


def _measured(results: Results, row: Row, exported: Exported, verdict: str | None) -> str:
    """Counts, accuracies with Wilson intervals, and what may be concluded."""
    parts = [] if exported.refit is None else [f"**{exported.refit.sentence()}**"]
    others = {"frozen baseline": results.baseline(), "tutorial's recipe": results.reference()}
    columns = words.with_objective({"loss": "val_loss"}, results.study.rule.objective)
    again, known = row["kind"] == "seed", not words.missing(row["val_loss"])
    own = f"this model, a fresh seed of {ids.source_of(row['id'])}" if again else "this configuration"
    rows = [_figures(own, row, columns.values())] if known else []
    if again:
        searched = results.configurations().set_index("id").loc[ids.source_of(row["id"])]
        rows.append(_figures("the search's own training of it", searched.to_dict(), columns.values()))
    for name, other in others.items():
        if other is not None and other["id"] != ids.source_of(row["id"]):
            rows.append(_figures(name, other.to_dict(), columns.values()))
    images = Counter(results.study.val_labels)
    counts = [images[i] for i in range(len(results.study.classes))]
    if counts and sum(counts):
        rows.append(
            [
                f"always {plain(results.study.classes[counts.index(max(counts))])}",
                *_share(counts),
                *["-"] * len(columns),
            ]
        )
    if (found := results.tested(str(row["id"]))) is not None:
        whose = "The model before the refit" if exported.refit is not None else "This very model"
        text = (
            f"{whose} has **{found.correct} of {found.n} test photographs** right ({words.percent(found.share)}, 95 % "
        )
        text += f"interval {100 * found.low:.0f} to {words.percent(found.high)})."
        if again and known:
            text += " Which of the fresh seeds it is, the validation photographs decided, so this does not flatter it."
        parts.append(text)
    parts.append(table(["on the validation photographs", "right", "95 % interval (Wilson)", *columns], rows))
    confusion = results.confusion(str(row["id"])) if known else None
    if confusion is not None:
        by_class = [
            [plain(name), *_share([int(confusion[i, i])], int(confusion[i].sum()))]
            for i, name in enumerate(results.study.classes)
        ]
        parts.append(table(["class", "right", "95 % interval (Wilson)"], by_class))
    reached = f"Verdict of the study: {plain(verdict)}"
    return "\n\n".join([*parts, reached if verdict else "The study has no verdict: nothing but validation."])


def _figures(name: str, row: Row, columns: Iterable[str]) -> list[str]:
    return [name, words.right(row, share=True), words.interval(row), *(words.cell(row, by) for by in columns)]


def _share(counts: Sequence[int], total: int | None = None) -> list[str]:
    """k of n with its interval: the largest count of them all, or the one count of `total`."""
    right, n = max(counts), sum(counts) if total is None else total
    low, high = wilson(right, n)
    share = words.percent(right / n) if n else "-"
    return [f"{right}/{n} ({share})", f"{100 * low:.0f} to {words.percent(high)}"]


def _limits(study: Study, row: Row, exported: Exported, baseline: bool) -> list[str]:
    train = sum(study.counts.get("train", ())) if exported.refit is None else exported.refit.photographs
    if exported.refit is None and words.missing(row["val_loss"]):  # a regression that needed no validation images
        train += study.validation
    validation = words.several(study.validation, "validation photograph")
    best = study.rule.checkpoint == "best"
    chosen = "This configuration and its epoch were" if best else "This configuration was"
    always = [
        f"It learned from {words.several(train, 'photograph')} and knows nothing but what those show. Photographs of "
        "another camera, place, season or purpose are another question.",
        "It always answers with one of its classes, also for a photograph of none of them. Its probabilities were not "
        "calibrated.",
        f"{chosen} chosen on the {validation}: the figures on them are better than new photographs will give.",
    ]
    leak = f"**Leak**: {words.several(study.leaked, 'photograph')} stood in two splits; the figures are too good by an"
    untrained = "**No pretraining**: the backbone's weights were random, so nothing here is about transfer learning."
    sometimes = (
        (study.validation < FEW, f"{validation} are few: read the intervals, not the shares."),
        (not study.pretrained, untrained),
        (study.leaked, f"{leak} unknown amount."),
        (not row["full"], f"It was trained for {row['epochs']} of {study.spec.search.max_epochs} epochs."),
        (
            not baseline and study.state != "finished",
            f"The search was {study.state}: another configuration may have been better.",
        ),
    )
    warned = [f"The study warned: {plain(warning)}" for warning in study.warnings]
    return [*always, *(text for holds, text in sometimes if holds), *warned]


def _check(exported: Exported) -> str:
    against = "predictions stored with the trial" if exported.refit is None else "predictions of the refit network"
    raw = exported.largest_raw_difference
    text = (
        f"A process of its own loaded the file and compared it with the {against}, on "
        f"{words.several(exported.photographs, 'validation photograph')}: the largest difference of a probability was "
        f"{exported.largest_difference:.1g} on the decoded squares"
        + ("." if raw is None else f" and {raw:.1g} on the photographs as they are.")
        + f" The file takes {exported.bytes / 1e6:.0f} MB."
    )
    return "\n\n".join([text, told(exported.sha256)] if exported.sha256 else [text])


def _weights(study: Study) -> str:
    kind = study.weights if study.weights in ("imagenet", "random") else "file"
    return WEIGHTS[kind].format(name=plain(study.weights)) + " The photographs' licences are yours to check too."


def _reproduce(study: Study, exported: Exported, name: str, baseline: bool) -> str:
    command = ["tlstudy", "best", name, "--export", exported.path.name, "--format", exported.kind.name]
    command += ["--baseline" if baseline else "--winner"] + ["--refit"] * (exported.refit is not None)
    commands = "\n".join([shlex.join(["tlstudy", "search", name]), shlex.join(command)])
    needed = "With these lines as `study.toml`, the same photographs, weights, versions and kind of machine:"
    return "\n\n".join([needed, fenced(commands), fenced(render(study.spec), "toml")])


# ---- Markdown that holds whatever the names in it are ----


def plain(text: object) -> str:
    """Text that Markdown shows as it is: nothing in it steers a terminal, makes markup or breaks a table."""
    escaped = re.sub(r"([\\`*_{}\[\]()<>#!|&~$])", r"\\\1", words.visible(text))
    # At the beginning of a line these would make a list or a rule of it.
    return re.sub(r"^(\s*)(?:(\d+)(?=\.(?:\s|$))|(?=[-+=]))", r"\1\2\\", escaped)


def fenced(text: str, language: str = "") -> str:
    """A code block; its fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    lines = (words.visible(line) for line in text.rstrip("\n").split("\n"))
    return "\n".join([fence + language, *lines, fence])


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
