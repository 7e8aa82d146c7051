"""Work on a cluster: the result of one machine to the bit, however the parts are spread and whatever dies."""

import multiprocessing
import os
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_case
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_course.commands.training import scale as commands
from mlops_course.development import training
from mlops_course.operations.deployment import batch
from mlops_course.operations.monitoring import drift
from mlops_course.system import cluster as clusters
from mlops_course.system import pipeline, scoring
from mlops_course.system.cluster import batches, files, workers
from mlops_course.system.pipeline import steps
from mlops_course.system.system import System

BATCHES = small_case.batches()[:6]
ROWS = 40  # a part: about twelve a batch
LATE = ["mlflow.store.model_registry.sqlalchemy_store", "skops.io"]  # modules that a worker imports for its first model
PATIENCE = 600  # seconds that a busy machine may take for what takes one otherwise


@pytest.fixture(scope="module")
def system(warm, tmp_path_factory):
    system = System("small_case", warm(tmp_path_factory.mktemp("scale")))
    trained = pipeline.train(system.case, BATCHES, workspace=system.workspace, seed=0)
    system.registry.promote(trained.version, approver="Ada", reason="first release")
    return system


@contextmanager
def imported_once():
    """Workers are forked from a process that has imported the package, where the system can; each is its own process.

    Otherwise every worker, also one that is started in place of a dead one, imports for many seconds.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        yield
        return
    from dask import config
    from distributed.utils import get_mp_context

    with config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", clusters.__name__, *LATE])
        yield


@pytest.fixture(scope="module", params=[pytest.param("cluster", marks=pytest.mark.long)])  # it takes long to start
def client():
    with pytest.MonkeyPatch.context() as patch, imported_once():
        patch.setattr(workers, "DEATHS", 1)  # a task that kills is given up sooner
        patch.setattr(workers, "CONNECT_SECONDS", PATIENCE)
        patch.setattr(workers, "WORKERS_SECONDS", 120)  # so long a dead worker is called before it is given up, too
        with clusters.connect("local", workers=2) as client:
            yield client


@pytest.fixture(scope="module")
def model(system):
    return system.registry.load("champion")


@pytest.fixture(scope="module")
def rows(system, model):
    """Inputs as they come in a file, with some that do not fit."""
    frame = pd.concat([scoring.score(system, name) for name in ("2024-07", "2024-08")], ignore_index=True)
    rows = frame[["id", *model.contract.inputs]].astype({"temperature": object})
    rows.loc[[3, 90, 91], "temperature"] = "warm"
    rows.loc[200:239, "temperature"] = "cold"  # a part of which no row fits
    return rows.astype({"temperature": "str"})


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(batch, "ROWS_PER_PART", ROWS)


def write(rows, path):
    rows.to_parquet(path, row_group_size=150) if path.suffix == ".parquet" else rows.to_csv(path, index=False)
    return path


def alone(model, source, target, **changed):
    asked = {**scoring.file_rules(model), "model": model.digest, "rows_per_part": ROWS} | changed
    return batch.score_file(source, target, **asked)


def contents(target):
    return {path.name: path.read_bytes() for path in target.parent.glob(f"{target.name}*")}


# Scores


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("source", ["in.csv", "in.parquet"])
@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_the_files_are_those_of_one_machine_to_the_bit(system, model, client, rows, tmp_path, source, target):
    source, told = write(rows, tmp_path / source), []
    (tmp_path / "alone").mkdir()
    expected = alone(model, source, tmp_path / "alone" / target)
    done = clusters.score_to_file(
        system,
        f"{source}",
        target=tmp_path / target,
        client=client,
        progress=lambda rows, of: told.append(rows),
    )
    assert (done.rows, done.quarantined, done.parts) == (expected.rows, 43, expected.parts)
    assert sum(told) == len(rows)
    assert contents(tmp_path / target) == contents(tmp_path / "alone" / target)


def test_a_batch_gets_the_scores_of_the_frame(system, client, tmp_path):
    done = clusters.score_to_file(system, "2024-07", target=tmp_path / "out.parquet", client=client)
    expected = scoring.score(system, "2024-07")[["id", "probability", "decision", "model_version"]]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), expected, check_exact=True)
    assert (done.parts, len(list(tmp_path.iterdir()))) == (1, 2)


@pytest.mark.usefixtures("small_parts")
def test_a_worker_loads_a_model_once(system, client, rows, tmp_path):
    source = write(rows, tmp_path / "in.parquet")
    clusters.score_to_file(system, f"{source}", target=tmp_path / "out.csv", client=client)
    loads = client.run(loaded)
    assert max(loads.values()) == 1


def loaded():
    return files._load.__wrapped__.cache_info().misses


@pytest.mark.usefixtures("small_parts")
def test_a_cluster_continues_what_one_machine_began_and_the_other_way_round(system, model, client, rows, tmp_path):
    source, target, parts = write(rows, tmp_path / "in.parquet"), tmp_path / "out.csv", []

    def killed(part):
        parts.append(part)
        if len(parts) == 6:
            raise KeyboardInterrupt
        return scoring.predict(model, part)

    with pytest.raises(KeyboardInterrupt):
        alone(model, source, target, answer=killed)
    done = clusters.score_to_file(system, f"{source}", target=target, client=client)
    assert done.parts == -(-len(rows) // ROWS) - 6  # five answered, and one of which no row fits
    assert alone(model, source, target).already_done
    assert clusters.score_to_file(system, f"{source}", target=target, client=client).already_done


@pytest.mark.parametrize(
    ("source", "error"),
    [("2031-01", "expected a file or a batch"), ("in.txt", "ends in .parquet or .csv"), ("out.csv", "another file")],
)
def test_a_cluster_refuses_what_one_machine_refuses(system, client, tmp_path, source, error):
    for name in ("in.txt", "out.csv"):
        (tmp_path / name).touch()
    source = source if source == "2031-01" else f"{tmp_path / source}"
    with pytest.raises(ValueError, match=error):
        clusters.score_to_file(system, source, target=tmp_path / "out.csv", client=client)


def test_a_file_that_lacks_a_column_is_refused_by_name(system, client, rows, tmp_path):
    source = write(rows.drop(columns="vibration"), tmp_path / "in.parquet")
    with pytest.raises(ValueError, match="got none named \\['vibration'\\]"):
        clusters.score_to_file(system, f"{source}", target=tmp_path / "out.csv", client=client)
    assert not (tmp_path / "out.csv").exists()


# How a file is cut

CELLS = st.text(alphabet='ab1 ,"\n\r', max_size=4)
TABLES = st.lists(st.tuples(CELLS, CELLS), max_size=9)


def read_by_tasks(source, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "ROWS_PER_PART", rows)
        with files._in_parts(source, folder=source.parent) as parts:
            return [part for task in parts.tasks() for _, part in parts.read(task)]


@settings(max_examples=80)
@given(TABLES, st.integers(1, 5), st.sampled_from(["\n", "\r\n"]))
def test_parts_of_csv_are_those_of_one_machine(tmp_path_factory, table, rows, end):
    source = tmp_path_factory.mktemp("csv") / "in.csv"
    frame = pd.DataFrame(table, columns=["a", 'the "b", so called'], dtype="str")
    frame.to_csv(source, index=False, lineterminator=end)
    expected, found = list(batch.parts(source, rows)), read_by_tasks(source, rows)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(one, other)


@settings(max_examples=40)
@given(st.integers(0, 60), st.integers(1, 25), st.integers(1, 12))
def test_parts_of_parquet_are_those_of_one_machine_however_its_row_groups_lie(tmp_path_factory, rows, group, part):
    source = tmp_path_factory.mktemp("parquet") / "in.parquet"
    table = pa.table({"id": range(rows), "seats": [None if row % 3 == 0 else row for row in range(rows)]})
    pq.write_table(table, source, row_group_size=group)
    expected, found = list(batch.parts(source, part)), read_by_tasks(source, part)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(one, other)


# Drift

INPUTS = {"at": "datetime", "size": "double", "colour": "string"}
VALUES = st.tuples(
    st.integers(0, 72), st.none() | st.floats(-9, 9), st.none() | st.sampled_from(["red", "blue", "new"])
)


def measured(values):
    frame = pd.DataFrame(values, columns=list(INPUTS))
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(frame["at"].astype(int), unit="h")
    return frame.assign(
        at=at.astype("datetime64[us]"), size=frame["size"].astype(float), colour=frame["colour"].astype("str")
    )


@settings(max_examples=30)
@given(st.lists(VALUES, min_size=1, max_size=40), st.integers(1, 15), st.integers(1, 6), st.booleans(), st.randoms())
def test_summaries_of_parts_add_up_to_that_of_all_in_any_order(tmp_path_factory, values, group, part, daily, random):
    rows, source = measured(values), tmp_path_factory.mktemp("drift") / "in.parquet"
    rows.to_parquet(source, row_group_size=group)
    bins = drift.reference(
        measured([(1, 0.5, "red"), (2, 1.0, "blue")]), numeric=["at", "size"], categorical=["colour"]
    )
    days = ("at", pd.Timedelta("1D")) if daily else None
    parts, found = files._Parts(source, part), {}
    tasks = parts.tasks()
    random.shuffle(tasks)
    for numbers in tasks:
        found = files._added(found, files._summarise(parts, bins, INPUTS, ["colour", "size"], days, numbers)[0])
    window = drift.windows(rows["at"], width=days[1]) if daily else None
    expected = drift.summarise_by(rows, bins, window=window) if daily else {None: drift.summarise(rows, bins)}
    assert found == expected


@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_a_cluster_measures_the_drift_that_one_machine_measures(system, model, client, rows, tmp_path, name):
    source = write(rows, tmp_path / name)
    found = clusters.drift(system, source, client=client)
    fit = batch.conform(rows[pd.to_numeric(rows["temperature"], errors="coerce").notna()], model.contract.inputs)
    from mlops_course.system import monitor

    texts = [name for name, kind in model.contract.inputs.items() if kind == "string"]
    bins = drift.reference(
        monitor.reference_rows(system, model.version)["all"],
        numeric=[name for name in model.contract.inputs if name not in texts],
        categorical=texts,
    )
    pd.testing.assert_frame_equal(found.table, drift.drift(drift.summarise(fit, bins)), check_exact=True)
    assert (found.rows, found.set_aside) == (len(fit), 43)


def test_windows_are_of_a_time_that_the_model_takes(system, client, rows, tmp_path):
    with pytest.raises(ValueError, match="expected one of the model's inputs that are times"):
        clusters.drift(
            system, write(rows, tmp_path / "in.csv"), client=client, window=("vibration", pd.Timedelta("1D"))
        )


# Features


@pytest.mark.parametrize(
    ("case", "batches"),
    [("small_case", BATCHES[:4]), ("mlops_course.flights", ["2013-01", "2013-02"])],
)
def test_the_frame_is_that_of_the_pipeline_to_the_bit(system, client, tmp_path, case, batches):
    system = System(case, system.workspace.replay(case))
    rows = clusters.features(system, [*reversed(batches)], target=tmp_path / "rows.parquet", client=client)
    expected = pipeline.prediction_rows(system.case, batches, workspace=system.workspace)
    assert rows == len(expected)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "rows.parquet"), expected, check_exact=True)


def test_rows_that_somebody_asked_to_forget_are_not_built(system, client, tmp_path):
    system = System("small_case", system.workspace.replay("forgetful").create())
    gone = small_case.build(small_case.read(BATCHES[:1]))["id"].head(3)
    system.workspace.withhold(gone)
    clusters.features(system, BATCHES[:1], target=tmp_path / "rows.parquet", client=client)
    assert not set(pd.read_parquet(tmp_path / "rows.parquet")["id"]) & set(gone)


# Search


def test_the_draws_the_scores_and_the_choice_are_those_of_one_machine(system, client, monkeypatch):
    asked = {"classify__max_iter": [3, 5, 8], "classify__max_leaf_nodes": [3, 4, 5]}
    monkeypatch.setattr(batches, "SETTINGS", asked)
    found = clusters.search(system, BATCHES, client=client, draws=2, seed=1)
    usable = batches._usable_rows(system, BATCHES)
    columns = pipeline.columns_of(system.specification)
    rows = batches._training_rows(system.workspace, steps.split_rows(usable, columns, system.workspace))
    times = {name: rows[columns[name]] for name in ("prediction_time", "label_time")}
    kinds = {kind: columns[kind] for kind in ("numeric", "categorical")}
    expected = training.search(
        training.candidates(system.case.derive, **kinds, seed=1)["gradient_boosting"],
        asked,
        inputs=rows[columns["inputs"]],
        target=rows[columns["target"]],
        folds=training.TimeFolds(training.FOLDS, **times),
        draws=2,
        seed=1,
    )
    assert found.best == expected.best_params_
    assert found.table[list(asked)].to_dict("records") == expected.cv_results_["params"]
    assert (-found.table["log_loss"]).tolist() == expected.cv_results_["mean_test_score"].tolist()
    for fold in range(training.FOLDS):
        assert (-found.table[f"fold_{fold}"]).tolist() == expected.cv_results_[f"split{fold}_test_score"].tolist()


def test_a_search_on_an_unknown_batch_is_refused(system, client):
    with pytest.raises(ValueError, match="expected a batch out of"):
        clusters.search(system, ["2031-01"], client=client, draws=1)


# The cluster


def note_and_fail(place):
    with open(place, "a") as notes:
        notes.write("x")
    raise OSError("the disk is away")


def fail_once(place):
    if not place.exists():
        place.touch()
        raise OSError("the disk is away")
    return "done"


def run(client, task, *arguments):
    return list(workers._run(client, task, arguments, what=lambda argument: f"part {argument}"))


def test_a_task_that_fails_once_is_done_again(client, tmp_path):
    assert run(client, fail_once, tmp_path / "mark") == [(tmp_path / "mark", "done")]


def test_a_task_that_always_fails_ends_the_run_with_its_own_error(client, tmp_path):
    with pytest.raises(OSError, match="the disk is away"):
        run(client, note_and_fail, tmp_path / "notes")
    assert len((tmp_path / "notes").read_text()) == 1 + workers.RETRIES


def test_a_task_is_not_done_where_the_code_is_another(client, monkeypatch):
    monkeypatch.setattr(workers, "_versions", lambda case: {"Python": "3", "the code": "abc"})
    with pytest.raises(ValueError, match=r"expected Python 3, found 3.*expected the code abc, found"):
        run(client, fail_once, Path("nowhere"))


class Elsewhere:
    """A client whose only worker has other versions."""

    def __init__(self, **versions):
        self.versions = versions

    def run(self, versions):
        return {"tcp://10.0.0.2:1": versions() | self.versions}


@pytest.mark.parametrize(
    ("versions", "error"),
    [
        ({"pandas": "2.2.0"}, r"expected pandas .*, found 2\.2\.0; .*constraints\.txt"),
        ({"scikit-learn": None}, "expected scikit-learn .*, found None"),
        ({"Python": "3.9"}, r"expected Python .*, found 3\.9"),
    ],
)
def test_a_worker_with_other_versions_is_refused(versions, error):
    workers._check_versions(Elsewhere())
    with pytest.raises(ValueError, match=error):
        workers._check_versions(Elsewhere(**versions))


def not_there(*_):
    raise ModuleNotFoundError("No module named 'mlops_course'")


def test_a_worker_without_the_package_is_refused(client, monkeypatch):
    monkeypatch.setattr(workers, "_versions", not_there)
    with pytest.raises(ValueError, match="expected mlops-course on every worker, got: No module"):
        workers._check_versions(client)


class OnlyHere(type(Path())):
    """A path that this process sees, and no worker."""

    def stat(self, **_):
        return os.stat(__file__)


def test_a_file_that_workers_do_not_see_ends_the_run_before_it_begins(client, tmp_path):
    with pytest.raises(ConnectionError, match=r"worker tcp://.* cannot read or write .*in\.csv .*use a shared folder"):
        workers._check_shared(client, read=[OnlyHere(tmp_path / "in.csv")])


def test_a_worker_names_a_different_file_and_a_folder_that_it_cannot_use(tmp_path):
    (tmp_path / "in.csv").write_text("a\n1\n")
    assert "of 4 bytes instead of 9" in workers._look({f"{tmp_path / 'in.csv'}": 9}, None)
    assert "cannot read or write" in workers._look({}, tmp_path / "away" / "x.token")


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(workers, "CONNECT_SECONDS", 1)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"expected a Dask scheduler at {address}"), clusters.connect(address):
            pass


def test_waiting_for_the_workers_of_a_cluster_has_an_end(client, monkeypatch):
    monkeypatch.setattr(workers, "WORKERS_SECONDS", 1)
    address = client.scheduler_info()["address"]
    with pytest.raises(ConnectionError, match=r"expected 5 workers .* found 2"), clusters.connect(address, workers=5):
        pass


def test_a_scheduler_that_goes_away_ends_the_run_with_what_to_do(tmp_path):
    from distributed import Client, LocalCluster

    here = {"n_workers": 1, "processes": False, "dashboard_address": "127.0.0.1:0", "local_directory": tmp_path}
    with LocalCluster(**here, silence_logs=50) as cluster, Client(cluster, set_as_default=False) as client:
        for place in "abc":
            (tmp_path / place).touch()
        results = workers._run(client, fail_once, [tmp_path / place for place in "abc"], what=str)
        next(results)
        cluster.close()
        with pytest.raises(ConnectionError, match="the scheduler is gone; start it, and this again"):
            list(results)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(clusters.MissingExtraError, match=r"the extra `scale`.*pip install"), clusters.connect("local"):
        pass


# Commands


@pytest.fixture
def call(client, system, monkeypatch):
    monkeypatch.setenv("MLOPS_HOME", f"{system.workspace.root}")
    where = ["--scheduler", client.scheduler_info()["address"]]

    def call(*arguments):
        return CliRunner().invoke(commands, [*arguments, *where], obj="small_case", catch_exceptions=False)

    return call


def test_commands_measure_build_and_search(call, rows, tmp_path):
    measured = call("drift", f"{write(rows, tmp_path / 'in.csv')}")
    assert "vibration" in measured.stdout
    assert "43 rows do not fit" in measured.stderr
    built = call("features", *BATCHES[:2], "--output", f"{tmp_path / 'rows.parquet'}")
    assert f"{batch.count_rows(tmp_path / 'rows.parquet'):,} rows in" in built.output
    assert "Best: classify__max_" in call("search", *BATCHES, "--draws", "1").output


def test_a_period_needs_a_column_and_a_length(call, tmp_path):
    (tmp_path / "in.csv").touch()
    wrong = call("drift", f"{tmp_path / 'in.csv'}", "--days", "1")
    assert (wrong.exit_code, "expected --time COLUMN and --days N" in wrong.output) == (2, True)


# Deaths come last: a worker that is started again has to import everything again


@pytest.mark.usefixtures("small_parts")
def test_a_worker_killed_in_mid_run_loses_nothing(system, model, client, rows, tmp_path, monkeypatch):
    source, killed = write(rows, tmp_path / "in.csv"), []
    monkeypatch.setattr(files, "PARTS_A_TASK", 1)

    def kill_one(rows, of):
        if not killed:
            killed.append(min(client.run(os.getpid).values()))
            os.kill(killed[0], signal.SIGKILL)

    done = clusters.score_to_file(system, f"{source}", target=tmp_path / "out.csv", client=client, progress=kill_one)
    (tmp_path / "alone").mkdir()
    assert killed
    assert done.rows == alone(model, source, tmp_path / "alone" / "out.csv").rows
    assert contents(tmp_path / "out.csv") == contents(tmp_path / "alone" / "out.csv")
    client.wait_for_workers(2, timeout=PATIENCE)
    assert killed[0] not in client.run(os.getpid).values()


def die(place):
    os._exit(1)


def test_a_task_of_which_workers_die_ends_the_run_by_its_name(client):
    with pytest.raises(ConnectionError, match="expected an answer for part 7, but every worker that began it died"):
        run(client, die, 7)
