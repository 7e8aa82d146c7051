"""The command line: every command does its work on a workspace, and an error is one readable message."""

import inspect
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from mlops_course import cli
from mlops_course.commands import operations, shared
from mlops_course.course import progress, snippets
from mlops_course.operations.registry import Registry
from mlops_course.system import demo, replay

ROOT = Path(__file__).parents[1]
TRAIN = ["train", "2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06"]


@pytest.fixture(scope="module")
def home(warm, tmp_path_factory):
    return warm(tmp_path_factory.mktemp("cli") / "home").root


@pytest.fixture(scope="module")
def run(home):
    """Run a command on the small case in a workspace of this module; the first one trains, so that there is a model."""

    def call(*arguments, case="small_case", expected=0, **options):
        os.environ["MLOPS_HOME"], before = str(home), os.environ["MLOPS_HOME"]
        try:
            done = CliRunner().invoke(cli.main, ["--case", case, *map(str, arguments)], **options)
        finally:
            os.environ["MLOPS_HOME"] = before
        assert done.exit_code == expected, done.output
        return done.output

    call(*TRAIN)
    return call


def test_a_second_training_says_that_nothing_had_to_be_done(run):
    outcome = json.loads(run(*TRAIN, "--json"))
    assert outcome["executed"] == []
    assert outcome["passed"]


def test_promotion_and_history_tell_the_same_story(run):
    version = json.loads(run(*TRAIN, "--json"))["version"]
    assert f"Version {version} is champion now" in run(
        "promote", version, "--approver", "Ada", "--reason", "fewer bursts"
    )
    events = json.loads(run("history", "--json"))["events"]
    assert [(event["version"], event["approver"], event["reason"]) for event in events] == [
        (version, "Ada", "fewer bursts")
    ]
    assert "fewer bursts" in run("history")


@pytest.fixture
def champion(run):
    """A champion, no matter which test runs first."""
    if not json.loads(run("history", "--json"))["events"]:
        run("promote", 1, "--approver", "Ada", "--reason", "first")


@pytest.mark.parametrize("step", ["promote", "roll_back", "shadow", "canary"])
def test_where_the_registry_takes_a_waiver_the_command_takes_it_too(step):
    assert "waiver" in inspect.signature(getattr(Registry, step)).parameters
    assert "waiver" in {option.name for option in cli.main.get_command(None, step.replace("_", "")).params}


@pytest.mark.parametrize(
    "text", ["[/bold]", "[red]stop[/red]", ":warning:", "a\\\\[x]", "[link=http://x]y[/link]", "\\\\"]
)
def test_what_a_person_wrote_is_shown_as_it_was_written(capsys, text):
    """Brackets and colons are markup of the library that prints tables; an unmatched one ended `history` for good."""
    shared.show(pd.DataFrame({text: [text, text]}), title=text)
    assert capsys.readouterr().out.count(text) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo terminal")
def test_a_line_that_is_told_while_a_bar_stands_begins_a_line_of_its_own():
    import pty

    code = (
        "from mlops_course.commands.shared import told_bar\n"
        "with told_bar('working', 9) as (advance, say):\n"
        "    for day in range(8): advance(f'day {day}', 1); say(f'told [b]{day}[/b]')"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b"".join(iter(partial(_read, ours), b"")).decode()
    assert process.returncode == 0, written
    assert "working" in written  # there was a bar
    lines = [line for line in written.splitlines() if "told" in line]
    assert [re.split(r"\r|\x1b\[2K|\x1b\[1A", line)[-1] for line in lines] == [f"told [b]{n}[/b]" for n in range(8)]


def _read(terminal):
    try:
        return os.read(terminal, 4_096)
    except OSError:  # how Linux says that the other end is closed
        return b""


def test_the_bar_of_the_demo_counts_days_and_says_what_to_open_next(run, monkeypatch):
    moves, bar = [], shared.told_bar

    @contextmanager
    def counted(*given):
        with bar(*given) as (_, say):
            yield lambda text, done, of=None: moves.append((text, done, of)), say

    monkeypatch.setattr(operations, "told_bar", counted)
    monkeypatch.setattr(demo, "LAST", 2)
    monkeypatch.setattr(demo, "tell", partial(demo.tell, train_on=6))  # what the small case needs
    output = run("demo")
    days = [(done, of) for _, done, of in moves if done]
    assert days == [(1, 3)] * 2  # the last part stays open while the pages are written: the clock goes on
    assert moves[-1][0] == "writing the pages"
    assert [Path(page).exists() for page in re.findall(r"file://(\S+)", output)] == [True] * 3
    assert "mlops-course serve" in output.rpartition("file://")[2]


@pytest.mark.usefixtures("champion")
def test_history_says_whether_it_is_intact(run):
    chain = json.loads(run("history", "--json"))["chain"][0]
    assert chain["defect"] == ""
    assert f"The history is intact: {chain['head']}" in " ".join(run("history").split())


@pytest.mark.usefixtures("champion")
def test_evaluate_prints_a_table_and_the_same_numbers_as_json(run):
    evidence = json.loads(run("evaluate", "2024-07", "--json"))
    auc = next(row["value"] for row in evidence["metrics"] if row["metric"] == "roc_auc")
    printed = run("evaluate", "2024-07")
    assert f"{auc:.4f}".rstrip("0") in printed
    floor = next(row["value"] for row in evidence["calibration"] if row["quantity"] == "noise_high")
    assert f"{floor:.4f}".rstrip("0") in printed


@pytest.mark.usefixtures("champion")
def test_a_batch_and_a_file_of_its_inputs_get_the_same_predictions(run, tmp_path):
    import small_case

    run("score", "2024-07", tmp_path / "batch.csv")
    inputs = small_case.build(small_case.read(["2024-07"]))
    inputs.drop(columns=["failed", "label_time"]).to_csv(tmp_path / "inputs.csv", index=False)
    run("score", tmp_path / "inputs.csv", tmp_path / "file.csv")
    batch, file = (pd.read_csv(tmp_path / name).set_index("id").sort_index() for name in ("batch.csv", "file.csv"))
    pd.testing.assert_frame_equal(file, batch)


@pytest.mark.usefixtures("champion")
def test_score_says_how_many_predictions_there_are_and_when_nothing_was_done(run, tmp_path):
    target = tmp_path / "out.csv"
    first, again = run("score", "2024-07", target), run("score", "2024-07", target)
    count = len(pd.read_csv(target))
    assert f"{count:,} predictions in {target}\n" in first
    assert f"{count:,} predictions in {target} were there from an earlier run; nothing was done\n" in again
    assert "set aside" not in first + again


@pytest.mark.usefixtures("champion")
def test_score_names_the_file_of_the_rows_that_were_set_aside_each_time(run, tmp_path):
    import small_case

    inputs, target = small_case.build(small_case.read(["2024-07"])).astype({"vibration": object}), tmp_path / "out.csv"
    inputs.loc[[3, 5], "vibration"] = "much"
    inputs.to_csv(tmp_path / "inputs.csv", index=False)
    told = [run("score", tmp_path / "inputs.csv", target) for _ in range(2)]
    aside = "2 rows do not fit and were set aside, with the reasons: " + f"{target}.quarantine.csv\n"
    assert [f"{len(inputs) - 2:,} predictions in" in output and aside in output for output in told] == [True, True]
    assert pd.read_csv(f"{target}.quarantine.csv")["row"].tolist() == [3, 5]


@pytest.fixture
def answered(run, home, champion):
    """An id in the prediction log."""
    from mlops_course.operations.deployment.prediction_log import PredictionLog
    from mlops_course.system import scoring
    from mlops_course.system.system import System
    from mlops_course.system.workspace import Workspace

    system = System("small_case", Workspace(home))
    with closing(PredictionLog(system.workspace.prediction_log_url)) as log:
        scoring.stream(system, ["2024-07"], log=log, consumer="cli")
        return log.predictions(limit=1)["id"].iloc[0]


def test_lineage_names_the_approver_and_a_broken_link_fails(run, answered, home):
    links = {row["link"]: row["value"] for row in json.loads(run("lineage", answered, "--json"))}
    assert links["approver"] == "Ada"
    assert "verified" in run("lineage", answered)
    with closing(sqlite3.connect(home / "predictions" / "log.db")) as log, log:
        log.execute("UPDATE predictions SET probability = probability / 2 WHERE id = ?", [answered])
    assert "these links do not hold: probability" in run("lineage", answered, expected=1)
    with closing(sqlite3.connect(home / "predictions" / "log.db")) as log, log:
        log.execute("UPDATE predictions SET probability = probability * 2 WHERE id = ?", [answered])


@pytest.mark.usefixtures("answered")
def test_monitor_says_what_the_log_tells_and_writes_a_report(run, home):
    assert json.loads(run("monitor", "--json"))["champion"]["version"] == 1
    output = run("monitor", "--at", "2024-09-01")
    assert "By week" in output
    assert "No alerts: nothing unusual was seen up to 2024-09-01 00:00 UTC." in output
    assert (home / "reports" / "monitoring.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_monitor_of_an_empty_workspace_says_what_is_missing(run, home, tmp_path, monkeypatch):
    shutil.copy(home / "empty.db", tmp_path)  # else MLflow makes its tables again, which takes seconds
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    done = CliRunner().invoke(cli.main, ["--case", "small_case", "monitor"])
    assert done.exit_code == 1
    assert "expected a champion" in done.output


def test_a_replay_shows_its_months_and_its_releases_and_where_it_lies(run, home, monkeypatch):
    whole = replay.replay  # of which the first days will do

    def begun(system, plan, **options):
        return whole(system, replace(plan, until="2024-07-04"), **options)

    monkeypatch.setattr(replay, "replay", begun)
    output = run("replay", "--policy", "never", "--first", "2024-07", "--last", "2024-07", "--faults", 1)
    assert "promoted: version 1" in output or "never, all past" in output
    (ledger,) = home.glob("replays/never-*-faults_1-0/ledger.jsonl")
    assert str(ledger) in output.replace("\n", "")
    assert "expected a policy out of" in run("replay", "--policy", "on a whim", expected=1)


def test_what_is_forgotten_is_unknown_afterwards_and_repeating_it_is_harmless(run, answered):
    words = ["--approver", "Ada", "--reason", "asked for"]
    first, again = (run("forget", answered, *words) for _ in range(2))
    assert first == again
    assert first.startswith("Forgotten: 1 from predictions;")
    assert "expected the id of a prediction" in run("lineage", answered, expected=1)
    assert "deletion done by Ada: asked for" in run("incident", "--start", "2020-01-01", "--end", "2100-01-01")
    assert run("forget", "--again", *words) == "Nothing that was forgotten has come back.\n"
    assert "expected either IDs or --again" in run("forget", *words, expected=2)


@pytest.mark.usefixtures("champion")
def test_readiness_shows_the_probes_and_the_score_of_the_weakest_section(run, monkeypatch):
    from mlops_course.system.readiness import PROBES, scorecard

    few = {part: dict([*PROBES[part].items()][:1]) for part in ("data", "model")}
    monkeypatch.setattr(scorecard, "PROBES", few)
    rows = json.loads(run("readiness", "--json"))
    assert [(row["section"], row["name"]) for row in rows] == [(part, *few[part]) for part in few]
    points = [sum(row["passed"] for row in rows if row["section"] == name) for name in few]
    assert f"The score is that of the weakest section: {min(points)}." in run("readiness")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "2031-01", "out.csv"], "expected a file or a batch out of"),
        (["evaluate", "2031-01"], "expected a batch out of"),
        (["promote", "99", "--approver", "Ada", "--reason", "why"], "no version 99"),
        (["rollback", "--approver", "Ada", "--reason", "why"], "no earlier champion"),
        (["evaluate", "2024-07", "--version", "challenge"], "challenge"),
    ],
)
@pytest.mark.usefixtures("champion")
def test_an_error_is_one_message_and_exit_code_one(run, arguments, message):
    output = run(*arguments, expected=1)
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize("missing", ["--approver", "--reason"])
def test_a_promotion_without_a_name_or_a_reason_is_a_wrong_call(run, missing):
    given = {"--approver": "Ada", "--reason": "why"}
    given.pop(missing)
    assert missing in run("promote", 1, *(word for pair in given.items() for word in pair), expected=2)


def test_a_model_that_the_gate_refuses_has_an_exit_code_of_its_own(run, monkeypatch, tmp_path):
    import small_case

    text = small_case.SPECIFICATION.read_text(encoding="utf-8").replace("min_roc_auc: 0.7", "min_roc_auc: 0.99")
    (tmp_path / "specification.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(small_case, "SPECIFICATION", tmp_path / "specification.yaml")
    assert "min_roc_auc" in run(*TRAIN, expected=cli.REFUSED)


def test_an_unknown_or_incomplete_case_is_refused_by_name(run):
    assert "no_such_case" in run("train", "2024-01", case="no_such_case", expected=1)
    assert "lacks ['SPECIFICATION'" in run("train", "2024-01", case="json", expected=1)


@pytest.mark.parametrize("damage", ["noise", "cut off", "a folder", "a page lost"])
@pytest.mark.parametrize("name", ["mlflow.db", "predictions/log.db"])
def test_a_broken_database_is_one_sentence_in_every_command_that_opens_it(home, tmp_path, monkeypatch, name, damage):
    whole = (home / "empty.db").read_bytes()
    shutil.copy(home / "empty.db", tmp_path / "mlflow.db")
    (file := tmp_path / name).parent.mkdir(exist_ok=True)
    lost = whole[:4_096] + bytes(4_096) + whole[8_192:]
    if damage == "a folder":
        file.unlink(missing_ok=True)
        file.mkdir()
    else:
        file.write_bytes({"noise": b"#" * 9_999, "cut off": whole[:-4_096], "a page lost": lost}[damage])
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    doctor = CliRunner().invoke(cli.main, ["doctor", "--json"])
    assert [check["what"] for check in json.loads(doctor.output) if not check["ok"]] == [file.name]
    assert doctor.exit_code == 1
    if (damage, file.name) == ("a page lost", "log.db"):
        return  # only the doctor reads the whole log, which may be large
    span = ["--start", "2024-01-01", "--end", "2024-02-01"]
    calls = [["history"], TRAIN, ["monitor"], ["lineage", "x"], ["readiness"], ["serve", "--port", "0"], ["demo"]]
    for call in [*calls, ["ui", "--port", "0"], ["evaluate", "2024-07"], ["incident", *span], ["shadow"]]:
        done = CliRunner().invoke(cli.main, ["--case", "small_case", *call])
        assert done.exit_code == 1, call
        assert done.output.startswith(f"Error: expected a database in {file}, but it cannot be read"), call
        assert len(done.output.splitlines()) == 1, call


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("command", ["serve", "ui"])
def test_a_port_that_is_taken_is_said_before_anything_is_opened(tmp_path, monkeypatch, command, host):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        where = ["--host", host] if command == "serve" else []
        done = CliRunner().invoke(cli.main, ["--case", "small_case", command, "--port", str(port), *where])
    assert done.exit_code == 4
    assert re.fullmatch(rf"Error: expected port {port} for .*, it is taken .* or say --port\n", done.output)
    assert not (tmp_path / "home").exists()


def test_a_port_that_is_taken_at_the_last_moment_does_not_exit_as_if_the_gate_had_refused(home):
    code = (
        "import sys; from mlops_course import cli; from mlops_course.course.classroom import machine\n"
        "machine.expect_free = lambda *where: None\n"
        "cli.main(['--case', 'mlops_course.flights', 'serve', '--port', sys.argv[1]])"
    )
    environment = {**os.environ, "MLOPS_HOME": str(home)}
    with socket.create_server(("127.0.0.1", 0)) as other:
        call = [sys.executable, "-c", code, str(other.getsockname()[1])]
        done = subprocess.run(call, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stderr
    assert "Error: the service could not listen on 127.0.0.1:" in done.stderr


def test_an_address_of_another_machine_is_no_taken_port():
    done = CliRunner().invoke(cli.main, ["--case", "small_case", "serve", "--host", "192.0.2.1"])
    assert (done.exit_code, "expected an address of this machine" in done.output) == (1, True)


def test_doctor_finds_the_test_environment_healthy(run):
    assert {check["ok"] for check in json.loads(run("doctor", "--json"))} == {True}
    assert "Python" in run("doctor")


def test_reset_asks_and_deletes_only_a_workspace(run, home, tmp_path, monkeypatch):
    run("reset", expected=1, input="n\n")
    assert (home / "mlflow.db").exists()
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    refused = CliRunner().invoke(cli.main, ["reset", "--yes"])
    assert refused.exit_code == 1
    assert (tmp_path / "thesis.txt").exists()


def test_reset_deletes_a_workspace(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "mlflow.db").touch()
    monkeypatch.setenv("MLOPS_HOME", str(home))
    assert CliRunner().invoke(cli.main, ["reset", "--yes"]).exit_code == 0
    assert not home.exists()


def test_reset_keeps_what_a_learner_has_done(tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.setenv("MLOPS_HOME", str(home))
    (home / "aside").mkdir(parents=True)
    (home / "mlflow.db").touch()
    (home / "progress.jsonl").write_text('{"gap": "03.known_by", "what": "passed"}\n', encoding="utf-8")
    assert "but for your progress" in CliRunner().invoke(cli.main, ["reset", "--yes"]).output
    assert sorted(path.name for path in home.iterdir()) == ["aside", "progress.jsonl"]
    assert "nothing to delete" in CliRunner().invoke(cli.main, ["reset", "--yes"]).output


def test_check_runs_the_exercise_of_a_lesson_and_progress_tells_of_it(run):
    marked = run("check", "4", expected=1)
    assert "your turn  known_by" in marked
    notebook, number = re.search(r"known_by: .*\n +(\S+), cell (\d+) is the check", marked).groups()
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    assert "checks.known_by(known_by)" in "".join(cells[int(number) - 1]["source"])
    assert "def known_by(" in "".join(cells[int(number) - 2]["source"])
    solution = ROOT / "solutions" / "04_data_engineering.ipynb"
    assert "done       known_by" in run("check", "data_engineering", "--notebook", solution)
    assert "data_engineering.known_by                    done" in run("progress", "data_engineering")
    assert re.search(r"04 data_engineering +█+  4 of 4", run("progress"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "99"], "expected a lesson that has exercises, got '99'"),
        (["progress", "nonsense"], "there are "),
        (["progress", "--reset"], "name the lesson"),
    ],
)
def test_a_lesson_without_exercises_is_a_wrong_call(run, arguments, said):
    assert said in run(*arguments, expected=2)


def test_progress_names_the_gaps_and_the_next_step_and_speaks_json(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    progress.record("data_engineering.known_by", "passed")
    told = {lesson: CliRunner().invoke(cli.main, ["progress", *lesson, "--json"]).output for lesson in [(), ("drift",)]}
    whole, one = map(json.loads, told.values())
    assert whole["next"].startswith("data_engineering.")  # where the learner is, not where the course begins
    assert [lesson["lesson"] for lesson in one["lessons"]] == ["drift"]
    states = {gap["gap"]: gap["state"] for lesson in whole["lessons"] for gap in lesson["gaps"]}
    assert (states["data_engineering.known_by"], states[one["next"]]) == ("done", "open")
    said = CliRunner().invoke(cli.main, ["progress", "drift"]).output
    assert [gap["name"] for gap in one["lessons"][0]["gaps"] if gap["name"] not in said] == []
    assert said.rstrip().endswith("mlops-course check drift")


def test_progress_says_that_the_classroom_cannot_be_reached_and_that_results_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    progress.record("03.known_by", "passed")  # something to send
    room = {"server": "http://127.0.0.1:9", "front": "", "learner": "ada", "password": "secret"}
    (tmp_path / "classroom.json").write_text(json.dumps(room), encoding="utf-8")
    assert "1 results wait until the classroom can be reached" in CliRunner().invoke(cli.main, ["progress"]).output


def test_snippets_are_listed_printed_and_copied(run, tmp_path):
    listed = {row["snippet"]: row for row in json.loads(run("snippet", "--json"))}
    assert listed["psi"]["module"] == "operations.monitoring.drift"
    assert run("snippet", "psi") == snippets.load("psi").code
    said = run("snippet", "psi", "--copy", tmp_path / "mine")
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"drift", "use_psi.py"}
    assert listed["psi"]["needs"].replace(",", "") in said
    assert re.search(r"Error: expected a snippet out of .*; did you mean psi\?", run("snippet", "PSI-", expected=1))
    assert "did you mean" not in run("snippet", "zebra", expected=1)
    assert "did you mean data_engineering?" in run("check", "data-enginering", expected=2)
    assert "name the snippet to copy" in run("snippet", "--copy", tmp_path, expected=2)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from mlops_course.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'pandas', 'sklearn', 'mlflow', 'numpy', 'rich'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_has_each_command_once_under_a_heading_and_clips_nothing():
    said = CliRunner().invoke(cli.main, ["--help"], terminal_width=80).output
    headings = ["Start", "Learn", "Make a model", "Release it", "Run it", "Answer for it"]
    assert re.findall(r"^(\w.*):$", said, re.MULTILINE)[1:] == headings
    listed = re.findall(r"^  ([a-z]+)  ", said.partition("Start:")[2], re.MULTILINE)
    assert sorted(listed) == sorted(cli.main.commands)


@pytest.mark.parametrize("group", [[], ["classroom"], ["scale"]])
def test_help_shows_first_sentences_whole_in_80_columns(group):
    said = CliRunner().invoke(cli.main, [*group, "--help"], terminal_width=80).output
    inner = cli.main.commands[group[0]] if group else cli.main
    assert max(map(len, said.splitlines())) <= 80
    words = " ".join(said.split())
    firsts = [" ".join(re.split(r"(?<=\.)\s", command.help.strip())[0].split()) for command in inner.commands.values()]
    assert [first for first in firsts if first.rstrip(".") not in words] == []


@pytest.mark.parametrize("name", sorted(cli.main.commands))
def test_every_command_says_what_it_does(name):
    assert cli.main.commands[name].help
    options = [option for option in cli.main.commands[name].params if option.param_type_name == "option"]
    assert [option.name for option in options if not option.help] == []
