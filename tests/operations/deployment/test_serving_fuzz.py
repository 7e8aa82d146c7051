"""Generated requests, valid, nearly valid and nonsense: no server error, no hang, no row of a refused request."""

import importlib.util
from pathlib import Path

import pytest
from test_serving import HANGS_AFTER, World, servable

from mlops_course.operations.deployment.prediction_log import PredictionLog

FEW, MANY = 80, 400  # requests; benchmarks/fuzz.py sends 10,000 to the service of the running case, and times them


@pytest.fixture(scope="module")
def fuzz():
    path = Path(__file__).parents[3] / "benchmarks" / "fuzz.py"
    specification = importlib.util.spec_from_file_location("fuzz", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("requests", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
def test_no_generated_request_is_a_server_error_or_leaves_a_row_when_refused(fuzz, tmp_path, monkeypatch, requests):
    monkeypatch.setattr(fuzz, "SLOW_SECONDS", HANGS_AFTER)
    log = PredictionLog(f"sqlite:///{(tmp_path / 'log.db').as_posix()}")
    world = World(log, servable(predict=lambda rows: [min(abs(row.get("wind") or 0), 1) for row in rows]))
    with fuzz.running(world.app) as address:
        tally = fuzz.fuzz(address, log, requests=requests)
    assert tally.statuses.total() > requests / 2
    assert {200, 404, 405, 422} <= set(tally.statuses)
    assert log.last() >= requests // 40, (
        "hardly a request was valid: the description asks for other things than the service"
    )
    log.close()
