"""Wrong use ends with 2, a failure with 1, each with one message that names the place, and never with a traceback."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import image_files
import pytest
from cli_programs import REPOSITORY, SMALL, Tlstudy, as_anybody, command, environment, process
from made_study import NO_TRIAL_YET, Made, make_study

from tuner.spec.spec import Spec
from tuner.store.folder import StudyFolder
from tuner.store.locate import write_study
from tuner.store.schema import FORMAT
from tuner.store.store import Store


def question(root: Path, text: str | None = None) -> Path:
    """A study without results; the photographs are those of `world`."""
    folder = StudyFolder(root)
    if text is None:
        write_study(folder, Spec().override({"data.path": "../../photos", "data.image_size": 32}), "a question")
    else:
        root.mkdir(parents=True)
        folder.spec.write_text(text)
    return root


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Photographs of several kinds, a question without an answer, a question that cannot be read."""
    image_files.folder(tmp_path / "photos", train=3, val=2)
    image_files.folder(tmp_path / "one_class", train=3, val=2, classes=("cat",))
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no photographs\n")
    question(tmp_path / "studies" / "asked")
    question(tmp_path / "studies" / "broken", "[search\nseed = 1\n")
    question(tmp_path / "studies" / "unknown", "[search]\nsed = 1\n")
    return tmp_path


NINES, BRACKETS = "9" * 5000, "[" * 5000
WRONG_USE = [
    (["frobnicate"], "No such command 'frobnicate'"),
    (["report", "--colour"], "No such option"),
    (["report", "--format", "xml"], "'xml' is not one of 'table', 'json', 'csv'"),
    (["report", "a", "b"], "unexpected extra argument"),
    (["best", "--top", "0"], "Invalid value for '--top' / '-k'"),
    (["init"], "Missing argument"),
    (["report", "askd"], "askd: no such study; expected a study folder, its study.toml or a name under studies/. Did"),
    (["best", "askd"], "Did you mean asked?"),
    (["search", "askd"], "Did you mean asked?"),
    (["report", "x" * 300], "no such study"),
    (["report", "~no-such-user/x"], "no such study"),
    (["report", "photos"], "photos: this folder holds no study.toml."),
    (["search", "photos"], "If it holds photographs: tlstudy search --data photos"),
    (["report", "asked"], "studies/asked: no results yet. Run: tlstudy search studies/asked"),
    (["best", "asked"], "studies/asked: no results yet. Run: tlstudy search studies/asked"),
    (["search", "broken"], "studies/broken/study.toml: not valid TOML: Expected ']' at the end of a table declaration"),
    (["search", "unknown"], "unknown/study.toml: unknown key search.sed; did you mean seed"),
    (["search", "asked", "--image-size", "3"], "data.image_size: found 3, expected a whole number from 32 to 1024"),
    (["search", "asked", "--image-size", "big"], "Invalid value for '--image-size'"),
    (["search", "asked", "--max-epochs", "0"], "search.max_epochs: found 0, expected a whole number from 1"),
    (["search", "asked", "--max-epochs", NINES[:400]], "search.max_epochs: found 9999"),
    (["search", "asked", "--factor", "1"], "search.factor: found 1, expected a whole number from 2 to 100"),
    (["search", "asked", "--batch-size", "0"], "search.batch_size: found 0"),
    (["search", "asked", "--seed", "-1"], "search.seed: found -1"),
    (["search", "asked", "--objective", "loss"], "search.objective: found 'loss', expected one of"),
    (["search", "asked", "--weights", ""], "backbone.weights: found '', expected a text that is not empty"),
    (["search", "asked", "--unfrozen-layers", "0,x"], "--unfrozen-layers: found '0,x', expected whole numbers"),
    (["search", "asked", "--unfrozen-layers", ""], "--unfrozen-layers: found ''"),
    (
        ["search", "asked", "--unfrozen-layers", "176"],
        "unfrozen_layers: found [176], expected a whole number from 0 to",
    ),
    (["search", "asked", "--set", "nonsense"], "--set nonsense: expected SECTION.KEY=VALUE with a section of data,"),
    (["search", "asked", "--set", "serch.seed=3"], "--set serch.seed=3: expected SECTION.KEY=VALUE"),
    (["search", "asked", "--set", "search.seed"], "--set search.seed: expected SECTION.KEY=VALUE"),
    (["search", "asked", "--set", "search.sed=3"], "--set: unknown key search.sed; did you mean seed"),
    (["search", "asked", "--set", "search.seed=many"], "search.seed: found 'many', expected a whole number"),
    (["search", "asked", "--set", "search.seed="], "search.seed: found '', expected a whole number"),
    (["search", "asked", "--set", f"search.seed={NINES}"], "search.seed: found '9999"),
    (["search", "asked", "--set", f"space.dropout={NINES[:400]}"], "space.dropout: found 9999"),
    (["search", "asked", "--set", f"space.dropout={BRACKETS}"], "space.dropout: found '[[["),
    (["search", "--data", "nowhere"], "nowhere: no such folder or .zip"),
    (["search", "--data", "empty"], "empty"),
    (["search", "--data", "notes.txt"], "notes.txt"),
    (["search", "--data", "one_class"], "one_class"),
    (["search", "--data", "~no-such-user/x"], "no such folder or .zip"),
    (["search", "asked", "--set", "data.path=~no-such-user/x"], "no such folder or .zip"),
    (["search", "--data", "photos", "--factor", "1"], "search.factor: found 1"),
    (["search", "asked", "--set", "data.path=nowhere"], "nowhere: no such folder or .zip"),
    (["init", "photos", "--weights", "nofile.h5"], "weights file nofile.h5 was not found (looked in"),
    (["init", "photos", "--weights", "bogus"], 'Name an existing .h5, .weights.h5 or .keras file, or use "imagenet"'),
    (["init", "photos", "--weights", "notes.txt"], "notes.txt: weights files end in .h5, .weights.h5 or .keras."),
    (["search", "--data", "photos", "--weights", "nofile.h5"], "weights file nofile.h5 was not found"),
    (["init", "nowhere"], "nowhere: no such folder or .zip. Expected"),
    (["init", "one_class"], "two"),
    (["search", ""], "STUDY: found '', expected a study folder, its study.toml or a name under studies/."),
    (["predict", "m.keras", ""], "PATH: found '', expected a photograph, a folder of them, or - for a list on stdin."),
    (["init", "photos", "--name", ""], "--name '': expected letters, digits, - and _ only"),
    (["init", "photos", "--name", "a/b"], "--name 'a/b': expected letters, digits, - and _ only, at most"),
    (["init", "photos", "--name", "x" * 300], "expected letters, digits, - and _ only, at most 60 of them, such as"),
    (["init", "x" * 5000], "expected a path of at most 4,095 bytes"),
    (["search", "--data", "x" * 300], "no such folder or .zip"),
    (["search", "asked", "--set", f"data.path={'x' * 300}"], "no such folder or .zip"),
    (["search", "asked", "--set", f"data.path={'x' * 5000}"], "expected a path of at most 4,095 bytes"),
    (["search", "asked", "--weights", "x" * 5000], "expected a path of at most 4,095 bytes"),
    (["init", "photos", "--name", "asked"], "studies/asked/study.toml exists and is kept."),
    (["init", "photos", "--image-size", "5"], "data.image_size: found 5"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_USE, ids=[" ".join(a)[:50] for a, _ in WRONG_USE])
def test_wrong_use_is_one_message(tlstudy: Tlstudy, world: Path, arguments: list[str], message: str) -> None:
    before = sorted(world.rglob("*"))
    done = tlstudy(*arguments)
    assert done.code == 2
    assert " ".join(message.split()) in done.text.replace("│ ", "")
    assert len(done.err) < 2000
    written = [p for p in sorted(world.rglob("*")) if p not in before and p.name != ".lock"]
    assert written == [], "nothing was changed"


def test_here_is_no_study_at_all(tlstudy: Tlstudy, tmp_path: Path) -> None:
    for command_ in ("report", "best"):
        done = tlstudy(command_)
        assert done.code == 2
        assert "Study studies/demo (the demo, as there is no study here yet)." in done.text
        assert "no results yet. Run: tlstudy search studies/demo" in done.text
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nofile.weights.h5", "x" * 300, "~no-such-user/x.h5"])
def test_weights_that_are_not_there_are_named(tlstudy: Tlstudy, world: Path, name: str) -> None:
    done = tlstudy("search", "asked", "--weights", name)
    assert done.code == 2
    assert f"weights file {name} was not found" in done.text
    for command_ in ("report", "best"):  # the session that failed is no reason to fail
        assert tlstudy(command_, "asked").code == 0


@pytest.mark.parametrize("arguments", [["search", "asked"], ["init", "photos"]], ids=" ".join)
def test_a_cache_in_the_home_of_an_unknown_user_is_refused(
    tlstudy: Tlstudy, world: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("TLSTUDY_CACHE", "~no-such-user/x")
    done = tlstudy(*arguments)
    assert done.code == 2
    assert "cache ~no-such-user/x: found no such user's home, expected a folder; set TLSTUDY_CACHE to one." in done.text
    assert not list(world.rglob("~*")) and not (world / "studies" / "photos").exists()


# ---- results that cannot be used -----------------------------------------------------------------------------------


def text_file(path: Path) -> None:
    path.write_text("dear diary, " * 500)


def truncated(path: Path) -> None:
    make_study(path.parent)
    path.write_bytes(path.read_bytes()[:9000])


def another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE albums (name TEXT)")


def newer(path: Path) -> None:
    make_study(path.parent)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA user_version = {FORMAT + 1}")


BAD_RESULTS = {
    text_file: "cannot be used as a study's database",
    truncated: "cannot be used as a study's database",
    another_program: "is another program's database; it was left untouched. Name another study folder, or move",
    newer: f"has format {FORMAT + 1}",
}


@pytest.mark.parametrize("make", BAD_RESULTS)
@pytest.mark.parametrize("command_", ["report", "best", "search"])
def test_results_that_cannot_be_used_are_named_and_kept(
    tlstudy: Tlstudy, world: Path, command_: str, make: Callable[[Path], None]
) -> None:
    path = world / "studies" / "asked" / "study.db"
    make(path)
    before = path.read_bytes()
    done = tlstudy(command_, "asked")
    assert done.code == 1
    assert f"studies/asked/study.db: {BAD_RESULTS[make]}" in done.text
    assert path.read_bytes() == before


def test_an_empty_database_is_no_results_yet(tlstudy: Tlstudy, world: Path) -> None:
    (world / "studies" / "asked" / "study.db").touch()
    done = tlstudy("report", "asked")
    assert done.code == 2
    assert "studies/asked: no results yet. Run: tlstudy search studies/asked" in done.text


@pytest.mark.parametrize("command_", ["report", "best"])
def test_results_without_a_question_or_a_trial_are_shown(tlstudy: Tlstudy, tmp_path: Path, command_: str) -> None:
    make_study(tmp_path / "alone", Made(trials=10, outcome=None))  # of a whole one `report` draws for seconds
    assert tlstudy(command_, "alone").code == 0
    make_study(tmp_path / "early", NO_TRIAL_YET)
    assert tlstudy(command_, "early").code == 0
    Store(tmp_path / "early" / "study.db").close()
    done = tlstudy("search", "alone")
    assert done.code == 2
    assert "alone/study.toml: cannot be read" in done.text
    assert "Its results are beside it: bring the file back, or ask anew with `tlstudy init PHOTOS`." in done.text


@pytest.mark.parametrize("command_", ["report", "best", "search"])
def test_a_folder_in_the_databases_place_is_named(tlstudy: Tlstudy, world: Path, command_: str) -> None:
    (world / "studies" / "asked" / "study.db").mkdir()
    done = tlstudy(command_, "asked")
    assert done.code == 1
    assert "studies/asked/study.db: is a folder, expected a study's database. Name another study folder" in done.text


# ---- files that cannot be written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["table", "json", "csv"])
def test_a_report_into_a_file_is_refused(
    tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path, format_: str
) -> None:
    made()
    (tmp_path / "file").write_text("mine")
    done = tlstudy("report", "--format", format_, "--output", "file")
    assert done.code == 2
    assert "file: figures and data cannot be written there" in done.text
    assert (tmp_path / "file").read_text() == "mine"


def test_a_report_of_a_study_where_nothing_can_be_written_is_shown(made: Callable[..., Path], tmp_path: Path) -> None:
    root = made()
    root.chmod(0o555)
    done = process("report", cwd=tmp_path, before=as_anybody)
    root.chmod(0o755)
    assert done.code == 0
    assert "Best configurations against the frozen baseline" in done.out and "Wrote" not in done.out
    assert done.err.splitlines() == [
        "Page, figures and data were not written to studies/made/report (Permission denied); "
        "--output DIR names another place."
    ]
    assert not (root / "report").exists()


def test_an_export_keeps_what_is_there(tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path) -> None:
    made()
    (tmp_path / "model.keras").write_text("mine")
    done = tlstudy("best", "--export", "model.keras")
    assert done.code == 2
    assert "model.keras" in done.text and "--force" in done.text
    assert (tmp_path / "model.keras").read_text() == "mine"
    for wrong in (["model.h5"], ["model", "--format", "keras"], ["model.onnx", "--format", "litert"]):
        done = tlstudy("best", "--export", *wrong)
        assert done.code == 2
        assert "expected ." in done.text
        assert not (tmp_path / wrong[0]).exists()


@pytest.mark.parametrize("option", ["--force", "--refit", "--winner", "--baseline", "--format=onnx"])
def test_an_option_of_an_export_without_one_is_refused(
    tlstudy: Tlstudy, made: Callable[..., Path], option: str
) -> None:
    made()
    done = tlstudy("best", option)
    assert done.code == 2
    assert f"{option.partition('=')[0]}: belongs to an export" in done.text


def test_an_export_of_two_models_is_refused(tlstudy: Tlstudy, made: Callable[..., Path], tmp_path: Path) -> None:
    made()
    done = tlstudy("best", "--export", "model.keras", "--winner", "--baseline")
    assert done.code == 2 and "--winner and --baseline name two models" in done.text
    assert not (tmp_path / "model.keras").exists()


def test_a_search_where_nothing_can_be_written_is_refused(tlstudy: Tlstudy, world: Path) -> None:
    (world / "file").write_text("")
    done = tlstudy("search", "--data", "../photos", cwd=_folder(world / "below", "studies"))
    assert done.code == 2
    assert "study.toml: cannot be written" in done.text


def _folder(root: Path, file: str) -> Path:
    root.mkdir()
    (root / file).write_text("in the way")
    return root


# ---- output that goes nowhere --------------------------------------------------------------------------------------

ARGUMENTS = [["report"], ["report", "--format", "json"], ["best"], ["--help"]]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=" ".join)
def test_a_reader_that_leaves_early_is_fine(made: Callable[..., Path], tmp_path: Path, arguments: list[str]) -> None:
    made()
    with subprocess.Popen(
        command(*arguments),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process_:
        assert process_.stdout is not None and process_.stderr is not None
        assert process_.stdout.read(1)
        process_.stdout.close()
        said = process_.stderr.read().decode()
    assert "Traceback" not in said
    assert "Exception" not in said
    assert "Error" not in said
    assert process_.returncode == 0


@pytest.mark.parametrize("arguments", [["report", "--format", "csv"], ["best"], ["--help"]], ids=" ".join)
def test_no_reader_at_all_is_fine(made: Callable[..., Path], tmp_path: Path, arguments: list[str]) -> None:
    made()
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        done = subprocess.run(
            command(*arguments), cwd=tmp_path, env=environment(), stdout=pipe, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) <= 1 and "Error" not in done.stderr


def test_a_search_that_nobody_reads_stops_and_is_not_done(world: Path) -> None:
    with subprocess.Popen(
        command("search", "asked", *SMALL), cwd=world, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process_:
        assert process_.stdout is not None and process_.stderr is not None
        process_.stdout.readline()
        process_.stdout.close()
        said = " ".join(process_.stderr.read().decode().split())
    assert process_.returncode == 1
    assert "nobody reads its output any more" in said and "Go on with: tlstudy search studies/asked" in said


def test_no_standard_output_at_all_is_no_error(made: Callable[..., Path], tmp_path: Path) -> None:
    made()
    for redirection in (">&-", ">&- 2>&-"):
        line = f'"$0" -m tuner best {redirection}'
        done = subprocess.run(
            ["sh", "-c", line, command()[0]], cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("form", ["json", "csv"])
def test_data_that_go_nowhere_are_an_error(made: Callable[..., Path], tmp_path: Path, form: str) -> None:
    made()
    line = f'"$0" -m tuner report --format {form} >&-'
    done = subprocess.run(
        ["sh", "-c", line, command()[0]], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [
        "tlstudy: standard output: it is closed, expected a file or a pipe for the data. Mend this and run the same "
        "command again."
    ]


def test_a_full_disk_behind_standard_output_is_one_message(made: Callable[..., Path], tmp_path: Path) -> None:
    made()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("best"), cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "tlstudy: output: No space left on device. Mend this and run the same command again.\n"


def test_a_report_that_is_interrupted_ends_with_130(made: Callable[..., Path], tmp_path: Path) -> None:
    made()
    with subprocess.Popen(
        command("report"), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process_:
        assert process_.stdout is not None
        assert process_.stdout.readline().startswith("Study studies/made")
        process_.send_signal(signal.SIGINT)
        _, said = process_.communicate()
    assert process_.returncode == 130, said
    assert "Traceback" not in said


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupts:
    def find_spec(self, name, *_):
        if name == "rich.console":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
from tuner.__main__ import main
main()
"""


def test_an_interrupt_while_modules_are_imported_is_quiet(tmp_path: Path) -> None:
    line = [sys.executable, "-c", INTERRUPTED_IMPORT]
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_installed_program_comes_in_by_the_same_door() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"tlstudy": "tuner.__main__:program"}


def test_a_process_of_its_own_ends_as_main_does(world: Path) -> None:
    for arguments, code in ((["report", "askd"], 2), (["report", "asked"], 2), (["--version"], 0)):
        done = process(*arguments, cwd=world)
        assert done.code == code
        assert "Traceback" not in done.err
