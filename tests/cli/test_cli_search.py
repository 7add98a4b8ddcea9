"""`search` for real: it writes its study once, keeps the options, and goes on to the same result after any stop."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_programs import SMALL, Outcome, Started, Tlstudy

from tuner.cli import main
from tuner.cli.options import assignments
from tuner.cli.search import _resume_command
from tuner.errors import SpecError
from tuner.spec.spec import Spec, load
from tuner.store.folder import StudyFolder
from tuner.store.options import Resolved, dotted
from tuner.store.store import Store

LEARNT = {
    "configurations": "id, kind, number, hyperparameters, cut, trained_parameters",
    "trials": "id, position, configuration, iteration, bracket, rung, first_epoch, last_epoch, parent, status, score, "
    "best_epoch, reason",
    "epochs": "configuration, epoch, trial, loss, accuracy, val_loss, val_accuracy, images, score",
    "predictions": "configuration, epoch, probabilities",
    "checkpoints": "configuration, role, epoch, sha256",
}


def learnt(study: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Everything a search found out, without how long it took."""
    with Store(study / "study.db", readonly=True) as store:
        return {
            table: [tuple(row) for row in store.rows(f"SELECT {columns} FROM {table} ORDER BY 1, 2")]
            for table, columns in LEARNT.items()
        }


def report(tlstudy: Tlstudy, work: Path) -> dict[str, Any]:
    done = tlstudy("report", "--format", "json", cwd=work)
    assert done.code == 0
    found: dict[str, Any] = json.loads(done.out)
    return found


# ---- a first search ------------------------------------------------------------------------------------------------


def test_a_search_of_photographs_writes_its_study_and_shows_the_result(finished_work: tuple[Path, Outcome]) -> None:
    work, done = finished_work
    assert done.code == 0
    assert "Traceback" not in done.err
    lines = done.out.splitlines()
    assert "Found 14 photographs in 2 classes." in lines
    assert lines[0] == "Study studies/photos (new: wrote studies/photos/study.toml)."
    ended = [line for line in lines if re.match(r"trial \d+/26 ", line)]
    assert len(ended) == 26
    assert done.out.index("\nUse: the ") < done.out.index("Too few images to tell")
    assert "No pretraining: the backbone's weights are random" in done.text
    assert lines[-2] == "More: tlstudy report studies/photos"
    assert lines[-1] == "      tlstudy best studies/photos --export model.keras"


def test_the_options_stand_in_the_study_it_wrote(finished_work: tuple[Path, Outcome]) -> None:
    spec = load(finished_work[0] / "studies" / "photos" / "study.toml")
    assert (spec.data.path, spec.data.image_size, spec.search.max_epochs) == ("../../photos", 32, 4)
    assert (spec.space.unfrozen_layers, spec.space.head_width) == ((0,), (0, 16))


def test_what_the_report_shows_is_what_was_asked(tlstudy: Tlstudy, work: Path) -> None:
    found = report(tlstudy, work)
    assert found["study"]["state"] == "finished"
    assert found["study"]["pretrained"] is False
    assert found["study"]["spec"] == load(work / "studies" / "photos" / "study.toml").to_dict()
    assert {row["kind"] for row in found["configurations"]} >= {"search", "baseline", "reference", "logistic"}


# ---- again ---------------------------------------------------------------------------------------------------------


def test_the_same_photographs_are_the_same_study_and_nothing_is_done_twice(tlstudy: Tlstudy, work: Path) -> None:
    before = learnt(work / "studies" / "photos")
    done = tlstudy("search", "--data", "photos", cwd=work)
    assert done.code == 0
    assert done.out.startswith("Study studies/photos (the one about photos).\n")
    assert not re.search(r"^trial \d", done.out, re.MULTILINE)
    assert os.listdir(work / "studies") == ["photos"]
    assert learnt(work / "studies" / "photos") == before


def test_other_photographs_of_the_same_name_are_another_study(tlstudy: Tlstudy, work: Path) -> None:
    shutil.copytree(work / "photos", work / "else" / "photos")
    done = tlstudy("search", "--data", "else/photos", "--set", "search.factor=1", cwd=work)
    assert done.code == 2
    options = ["--weights", "random", "--image-size", "32", "--max-epochs", "1", "--unfrozen-layers", "0"]
    done = tlstudy("search", "--data", "else/photos", *options, "--no-confirm", cwd=work)
    assert done.code == 0
    assert "Study studies/photos-2 (new: wrote" in done.out


def test_a_moved_study_goes_on(tlstudy: Tlstudy, work: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(work, moved)
    done = tlstudy("search", "photos", "--quiet", cwd=moved)
    assert done.code == 0
    assert "Too few images to tell" in done.out


def test_what_a_search_says_when_images_moved_works_when_typed(tlstudy: Tlstudy, work: Path) -> None:
    study = work / "studies" / "photos"
    before = learnt(study)
    shutil.move(work / "photos", work / "else where")
    done = tlstudy("search", cwd=work)
    assert done.code == 2
    typed = re.search(r"tlstudy search .* --data", " ".join(done.err.split()))
    assert typed is not None
    assert tlstudy(*shlex.split(typed.group())[1:], "else where", cwd=work).code == 0
    assert learnt(study) == before
    assert tlstudy("search", cwd=work).code == 0, "the place is kept"


def test_another_question_is_refused_with_each_difference(tlstudy: Tlstudy, work: Path) -> None:
    before = (work / "studies" / "photos" / "study.db").read_bytes()
    done = tlstudy("search", "photos", "--max-epochs", "3", "--set", "space.head_width=16", cwd=work)
    assert done.code == 2
    assert "the results here answer another question" in done.text
    assert "search.max_epochs: 4 -> 3" in done.err
    assert "space.head_width: [0, 16] -> 16" in done.err
    assert "--fresh" in done.text
    assert (work / "studies" / "photos" / "study.db").read_bytes() == before
    path = work / "studies" / "photos" / "study.toml"
    path.write_text(path.read_text().replace("seed = 0", "seed = 7"))
    done = tlstudy("search", "photos", cwd=work)
    assert done.code == 2
    assert "search.seed: 0 -> 7" in done.err


def test_other_bytes_of_a_photograph_are_refused(tlstudy: Tlstudy, work: Path) -> None:
    one = work / "photos" / "train" / "cat" / "00.jpg"
    one.write_bytes(one.read_bytes() + b"more")
    done = tlstudy("search", cwd=work)
    assert done.code == 2
    assert "the photographs changed" in done.text


def test_fresh_keeps_the_old_results_and_the_options_are_kept_on_resume(tlstudy: Tlstudy, work: Path) -> None:
    study = work / "studies" / "photos"
    before = learnt(study)
    done = tlstudy("search", "photos", "--fresh", "--max-epochs", "1", "--seed", "5", cwd=work)
    assert done.code == 0
    aside = next((study / "previous").iterdir())
    assert f"The old results are in studies/photos/previous/{aside.name}." in done.out
    assert learnt(aside) == before
    assert load(study / "study.toml").search.max_epochs == 4, "the file is not changed"
    asked = report(tlstudy, work)["study"]["spec"]["search"]
    assert (asked["max_epochs"], asked["seed"]) == (1, 5), "options win over the file"
    done = tlstudy("search", "photos", cwd=work)
    assert done.code == 0
    kept = "Going on with the options it was started with: search.max_epochs = 1, search.seed = 5."
    assert kept in done.text
    done = tlstudy("search", "photos", "--seed", "6", cwd=work)
    assert done.code == 2
    assert "search.seed: 5 -> 6" in done.err
    assert learnt(aside) == before


def test_quiet_is_the_result_alone(tlstudy: Tlstudy, work: Path) -> None:
    done = tlstudy("search", "photos", "-q", cwd=work)
    assert done.code == 0
    assert len(done.out.splitlines()) < 20
    assert "Too few images to tell" in done.out


# ---- stopped -------------------------------------------------------------------------------------------------------


def until(search: Started, beginning: str) -> None:
    """Waits until a line begins so, then freezes the process where it is."""
    search.until(beginning)
    search.signal(signal.SIGSTOP)


def stopped(search: Started, number: signal.Signals) -> Outcome:
    """Sends the signal to the frozen process, lets it go on, and returns how it ended."""
    search.signal(number)
    search.signal(signal.SIGCONT)
    return search.end()


def go_on_with(done: Outcome) -> list[str]:
    """The arguments of the command that it printed."""
    words = shlex.split(done.err.rpartition("Go on with: ")[2].strip())
    assert words[0] == "tlstudy"
    return words[1:]


def test_a_search_that_is_interrupted_and_ended_goes_on_to_the_same_result(
    tlstudy: Tlstudy, finished_work: tuple[Path, Outcome], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished_work[0] / "photos", work / "photos")
    study = work / "studies" / "photos"

    with Started("search", "--data", "photos", *SMALL, "--verbose", cwd=work) as search:
        until(search, "trial 2/26")
        assert report(tlstudy, work)["study"]["state"] == "running"
        other = tlstudy("search", "photos", cwd=work)
        assert other.code == 2
        assert f"another search works on this study (process {search.pid} on " in other.text
        done = stopped(search, signal.SIGINT)
    assert done.code == 130
    assert "Stopping after this epoch; once more to leave at once." in done.err
    assert "Traceback" not in done.err
    assert go_on_with(done) == ["search", "studies/photos"]
    first = learnt(study)
    assert 2 <= len(first["trials"]) < 26
    assert report(tlstudy, work)["study"]["state"] == "interrupted"
    assert tlstudy("best", cwd=work).code == 0

    with Started(*go_on_with(done), cwd=work) as search:
        until(search, "trial 12/26")
        done = stopped(search, signal.SIGTERM)
    assert done.code == 143
    assert "Traceback" not in done.err
    second = learnt(study)
    assert first["predictions"][0] in second["predictions"]
    assert len(first["trials"]) < len(second["trials"]) < 26

    assert tlstudy(*go_on_with(done), cwd=work).code == 0
    assert learnt(study) == learnt(finished_work[0] / "studies" / "photos")
    with Store(study / "study.db", readonly=True) as store:
        assert [row[0] for row in store.rows("SELECT outcome FROM sessions ORDER BY id")] == [
            "interrupted",
            "interrupted",
            "finished",
        ]


def slow(cwd: str, arguments: list[str]) -> None:
    """`tlstudy` whose first training step does not end."""
    from tuner.training import trial

    def train(*_: object) -> None:
        print("in a step", flush=True)
        time.sleep(100)

    os.chdir(cwd)
    sys.argv = ["tlstudy", *arguments]
    trial._Trainer._train = train  # type: ignore[assignment, method-assign]
    main()


def test_a_second_ctrl_c_does_not_wait_for_the_epoch(
    tlstudy: Tlstudy, finished_work: tuple[Path, Outcome], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished_work[0] / "photos", work / "photos")
    with Started("search", "--data", "photos", *SMALL, cwd=work, main=slow) as search:
        search.until("in a step")
        search.signal(signal.SIGINT)
        search.until("Stopping after this epoch; once more to leave at once")
        search.signal(signal.SIGINT)
        done = search.end()
    assert done.code == 130
    assert "Left at once; the store holds every finished epoch." in done.err and "Traceback" not in done.err
    with Store(work / "studies" / "photos" / "study.db", readonly=True) as store:
        assert store.rows("SELECT outcome FROM sessions")[0][0] == "interrupted"
    assert tlstudy("search", "photos", cwd=work).code == 0
    assert learnt(work / "studies" / "photos") == learnt(finished_work[0] / "studies" / "photos")


CHANGES = {
    "search.seed": 7,
    "search.optimizer": "sgd",
    "data.path": '/a b/it\'s "here"',
    "data.allow_leak": True,
    "backbone.weights": ["imagenet", "random"],
    "space.unfrozen_layers": [0, 10],
    "space.head_width": 16,
    "space.learning_rate": {"min": 1e-5, "max": 1e-3, "sampling": "log"},
    "space.dropout": {"min": 0.0, "max": 0.5, "step": 0.1},
}


def test_the_command_that_resumes_repeats_what_is_not_stored_yet(tmp_path: Path) -> None:
    """A stop before the first trial leaves nothing in the store: the options would be lost."""
    folder, spec = StudyFolder(tmp_path / "my study"), Spec().override(CHANGES)
    resolved = Resolved(spec, CHANGES, {}, {})
    words = shlex.split(_resume_command(folder, resolved))
    assert words[:2] == ["tlstudy", "search"]
    assert words[3::2] == ["--set"] * len(CHANGES)
    assert Spec().override(assignments(words[4::2])) == spec
    folder.root.mkdir()
    with Store(folder.database) as store:
        assert shlex.split(_resume_command(folder, resolved)) == words
        store.set_meta(overrides=CHANGES)
    assert shlex.split(_resume_command(folder, resolved)) == words[:3]


def test_earlier_names_of_keys_are_taken_by_options_too() -> None:
    changes = assignments(["space.fitted_head=1", "space.backbone_rate=0.1"])
    assert changes == dotted({"fitted_head": 1, "backbone_rate": 0.1})
    found = Spec().override(changes).space
    assert (found.head_init, found.backbone_lr_multiplier) == ("linear_probe", 0.1)
    with pytest.raises(SpecError, match=r"space\.fitted_head: found 2, expected 0 or 1"):
        Spec().override(assignments(["space.fitted_head=2"]))
