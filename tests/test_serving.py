"""The service in one process: each caller gets its own answer, once it is on record, whatever goes wrong beside it."""

import asyncio
import json
import re
import threading
from collections import Counter
from datetime import UTC, datetime

import httpx
import numpy as np
import pytest

from mlops_course import serving
from mlops_course.prediction_log import PredictionLog
from mlops_course.serving import Coalescer, FullError, Rollout, Servable

INPUTS = {"when": "datetime", "maker": "string", "wind": "double", "seats": "long", "night": "boolean"}
ROW = {"when": "2024-05-01T10:00:00", "maker": "Ajax", "wind": 4.5, "seats": 3, "night": False}
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def servable(version=1, *, predict=None, threshold=0.5, **changes):
    """A model whose probability is the wind in hundredths, so that each row shows whose answer it got."""
    facts = {
        "inputs": INPUTS,
        "optional": ["wind", "maker"],
        "categories": {"maker": {"Ajax", "Boreal"}},
        "example": [ROW],
    }
    answers = predict or (lambda rows: [(row.get("wind") or 0) / 100 for row in rows])
    return Servable(version=version, threshold=threshold, predict=answers, **facts | changes)


class World:
    """What the application is handed: models by version, who is in charge, and a log; counts what is asked of it."""

    def __init__(self, log, *models, **settings):
        self.models = {model.version: model for model in models or [servable()]}
        self.rollout = Rollout(champion=min(self.models))
        self.log, self.loaded, self.writes = log, Counter(), 0
        self.app = serving.create_app(
            load=self.load,
            current=self.current,
            log=self,
            **{"clock": lambda: NOON, "refresh_seconds": 60.0} | settings,
        )

    def load(self, version):
        self.loaded[version] += 1
        if isinstance(self.models[version], Exception):
            raise self.models[version]
        return self.models[version]

    def current(self):
        if isinstance(self.rollout, Exception):
            raise self.rollout
        return self.rollout

    def append(self, predictions=(), *, labels=()):
        self.writes += 1
        return self.log.append(predictions, labels=labels)

    def unpredicted(self, ids):
        return self.log.unpredicted(ids)

    def run(self, scenario):
        """Start the application, play a scenario with a client, and stop it."""

        async def play():
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with (
                self.app.router.lifespan_context(self.app),
                httpx.AsyncClient(transport=transport, base_url="http://service", timeout=30) as client,
            ):
                return await scenario(client)

        return asyncio.run(play())

    def ask(self, body, path="/predict", **how):
        return self.run(lambda client: client.post(path, **({"json": body} if "content" not in how else {}) | how))


@pytest.fixture
def log(tmp_path):
    log = PredictionLog(f"sqlite:///{(tmp_path / 'log.db').as_posix()}")
    yield log
    log.close()


def rows_of(count, **changes):
    return {"rows": [ROW | {"wind": float(n % 100), "id": f"r{n}"} | changes for n in range(count)]}


class Held:
    """A model that, once armed, waits until it is let go, and says when it has begun."""

    def __init__(self):
        self.armed, self.begun, self.go, self.sizes = False, threading.Event(), threading.Event(), []

    def __call__(self, rows):
        if not self.armed:
            return [0.1] * len(rows)
        self.sizes.append(len(rows))
        self.begun.set()
        assert self.go.wait(20)
        return [0.1] * len(rows)


async def eventually(condition):
    for _ in range(2000):
        if await condition() if asyncio.iscoroutinefunction(condition) else condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen within ten seconds")


# Answers


def test_every_reply_is_that_of_its_own_row_and_on_record_exactly_once(log):
    world, random = World(log), np.random.default_rng(0)
    bodies = []
    for request, size in enumerate(random.integers(1, 20, 200)):
        rows = [ROW | {"wind": float(random.integers(0, 100)), "id": f"{request}.{n}"} for n in range(size)]
        bodies.append({"rows": rows})

    async def scenario(client):
        return await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))

    replies = world.run(scenario)
    for body, reply in zip(bodies, replies, strict=True):
        expected = [(row["id"], row["wind"] / 100, row["wind"] >= 50, 1) for row in body["rows"]]
        assert [tuple(answer.values()) for answer in reply.json()["predictions"]] == expected
    kept = log.predictions().set_index("id")["probability"].to_dict()
    assert kept == {row["id"]: row["wind"] / 100 for body in bodies for row in body["rows"]}
    assert world.writes < len(bodies)


def test_what_waits_together_is_answered_together(log):
    held = Held()
    world = World(log, servable(predict=held))

    async def scenario(client):
        held.armed = True
        first = asyncio.create_task(client.post("/predict", json=rows_of(1)))
        await eventually(held.begun.is_set)
        others = [asyncio.create_task(client.post("/predict", json={"rows": [ROW]})) for _ in range(30)]
        await eventually(lambda: world.app.state.service.champions.waiting == 30)
        held.go.set()
        return await asyncio.gather(first, *others)

    assert {reply.status_code for reply in world.run(scenario)} == {200}
    assert held.sizes == [1, 30]


def test_ids_that_nobody_gave_are_new_and_grow(log):
    world = World(log)
    replies = world.run(
        lambda client: asyncio.gather(*(client.post("/predict", json={"rows": [ROW] * 3}) for _ in "ab"))
    )
    ids = [answer["id"] for reply in replies for answer in reply.json()["predictions"]]
    assert len(set(ids)) == 6
    assert ids[:3] == sorted(ids[:3])


def test_asking_again_gets_the_first_answer_even_from_another_champion(log):
    world = World(log, servable(1), servable(2, predict=lambda rows: [0.99] * len(rows)))

    async def scenario(client):
        first = await client.post("/predict", json=rows_of(2))
        world.rollout = Rollout(champion=2)
        await client.post("/refresh")
        return first, await client.post("/predict", json=rows_of(2)), await client.post("/predict", json=rows_of(3))

    first, again, more = (reply.json()["predictions"] for reply in world.run(scenario))
    assert again == first
    assert [answer["model_version"] for answer in more] == [1, 1, 2]


def test_an_id_with_other_inputs_is_refused_and_does_not_fail_the_others(log):
    world = World(log)

    async def scenario(client):
        await client.post("/predict", json=rows_of(1))
        bodies = [rows_of(1, wind=9.0), {"rows": [ROW | {"id": "new"}]}, rows_of(1)]
        return await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))

    replies = world.run(scenario)
    assert [reply.status_code for reply in replies] == [409, 200, 200]
    assert "r0" in replies[0].json()["detail"]
    assert sorted(log.predictions()["id"]) == ["new", "r0"]


def test_an_id_twice_in_one_request_is_one_prediction_or_a_contradiction(log):
    same, other = {"rows": [ROW | {"id": "a"}] * 2}, {"rows": [ROW | {"id": "b"}, ROW | {"id": "b", "wind": 1.0}]}
    replies = World(log).run(lambda client: asyncio.gather(*(client.post("/predict", json=b) for b in (same, other))))
    assert [reply.status_code for reply in replies] == [200, 409]
    assert log.predictions()["id"].tolist() == ["a"]


# What is refused

BAD_ROWS = {
    "a required field is missing": ({k: v for k, v in ROW.items() if k != "seats"}, "seats", "Field required"),
    "a field that nobody knows": (ROW | {"wnd": 1}, "wnd", "not permitted"),
    "a text for a number": (ROW | {"wind": "strong"}, "wind", "valid number"),
    "a number in quotes": (ROW | {"wind": "4.5"}, "wind", "valid number"),
    "a truth for a number": (ROW | {"wind": True}, "wind", "valid number"),
    "a fraction for a whole number": (ROW | {"seats": 2.5}, "seats", "valid integer"),
    "a number for a truth": (ROW | {"night": 1}, "night", "valid boolean"),
    "a number for a text": (ROW | {"maker": 7}, "maker", "valid string"),
    "a text without end": (ROW | {"maker": "x" * 1_001}, "maker", "at most 1000 characters"),
    "a time with a zone": (ROW | {"when": "2024-05-01T10:00:00Z"}, "when", "timezone"),
    "a time as a number": (ROW | {"when": 1714557600}, "when", "valid datetime"),
    "an id with a space": (ROW | {"id": "a b"}, "id", "match pattern"),
    "an id that is none": (ROW | {"id": ""}, "id", "match pattern"),
}


@pytest.mark.parametrize(("row", "field", "expectation"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_row_that_does_not_fit_is_refused_with_field_expectation_and_value(log, row, field, expectation):
    reply = World(log).ask({"rows": [ROW, row]})
    (defect,) = reply.json()["detail"]
    assert reply.status_code == 422
    assert defect["loc"] == ["body", "rows", 1, field]
    assert expectation in defect["msg"]
    assert defect["input"] == repr(row.get(field, row))[:100]
    assert log.predictions().empty


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"wind=4",
        b"[]",
        b"7",
        b'{"rows": []}',
        b'{"rows": {}}',
        b'{"rows": [null]}',
        json.dumps({"rows": [ROW] * 1_001}).encode(),
        json.dumps({"rows": [ROW]}).encode("utf-16"),
        json.dumps({"rows": [ROW]}).replace("Ajax", "\\ud800").encode(),
        json.dumps({"rows": [ROW]}).replace("4.5", "NaN").encode(),
        json.dumps({"rows": [ROW]}).replace("4.5", "-Infinity").encode(),
        json.dumps({"rows": [ROW]}).replace("4.5", "1e999").encode(),
        json.dumps({"rows": [ROW]}).replace("3", "9" * 5_000).encode(),
        b'{"rows": [{"maker": "\xff\xfe"}]}',
        b'{"rows":' + b"[" * 5_000,
    ],
    ids=lambda content: repr(content[:30]),
)
def test_a_body_that_is_no_request_is_refused(log, content):
    reply = World(log).ask(None, content=content, headers={"content-type": "application/json"})
    assert reply.status_code == 422
    assert reply.json()["detail"]
    assert log.predictions().empty


def test_of_many_defects_the_first_are_told(log):
    reply = World(log).ask({"rows": [ROW | {"wind": "x" * 2_000}] * 1_000})
    assert len(reply.json()["detail"]) == serving.MAX_ERRORS
    assert len(reply.content) < 10_000


def test_a_body_without_end_is_not_read_to_its_end(log):
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 20 * serving.MAX_BODY:
            sent += 2**16
            yield b" " * 2**16

    assert World(log).ask(None, content=endless()).status_code == 413
    assert sent <= serving.MAX_BODY + 2**17


def test_a_compressed_body_is_refused(log):
    assert World(log).ask(rows_of(1), headers={"content-encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer ☃".encode()}])
def test_without_the_token_nothing_is_done_and_with_it_everything(log, given):
    world, secret = World(log, token="s3cret"), {"authorization": "Bearer s3cret"}

    async def scenario(client):
        bodies = {"/predict": rows_of(1), "/feedback": {"labels": [{"id": "r0", "label": 1}]}, "/refresh": None}
        without = [(await client.post(path, json=body, headers=given)).status_code for path, body in bodies.items()]
        having = [(await client.post(path, json=body, headers=secret)).status_code for path, body in bodies.items()]
        open_ = [
            (await client.get(path)).status_code for path in ("/live", "/ready", "/model", "/metrics", "/docs", "/")
        ]
        return without, having, open_

    assert world.run(scenario) == ([401] * 3, [200] * 3, [200] * 6)


def test_missing_and_unknown_values_are_answered_and_counted(log):
    world = World(log)

    async def scenario(client):
        rows = [ROW | {"maker": "Cobalt"}, ROW | {"wind": None}, {k: v for k, v in ROW.items() if k != "wind"}]
        reply = await client.post("/predict", json={"rows": rows})
        return reply.status_code, (await client.get("/metrics")).text

    status, metrics = world.run(scenario)
    assert status == 200
    assert 'missing_values_total{feature="wind"} 2.0' in metrics
    assert 'unknown_categories_total{feature="maker"} 1.0' in metrics
    assert 'predictions_total{model_version="1"} 3.0' in metrics


# When something fails


class Failing:
    """A log that takes nothing for a while."""

    def __init__(self, log):
        self.log, self.fails = log, True

    def append(self, predictions=(), *, labels=()):
        if self.fails:
            raise OSError("disk full")
        return self.log.append(predictions, labels=labels)

    def unpredicted(self, ids):
        return self.log.unpredicted(ids)


def test_without_the_log_nothing_is_answered_and_with_it_again(log):
    failing = Failing(log)
    world = World(failing)

    async def scenario(client):
        lost = await client.post("/predict", json=rows_of(1))
        labels = await client.post("/feedback", json={"labels": [{"id": "r0", "label": 1}]})
        state = await client.get("/ready"), await client.get("/live")
        failing.fails = False
        return lost, labels, *state, await client.post("/predict", json=rows_of(1)), await client.get("/ready")

    lost, labels, ready, live, again, ready_again = world.run(scenario)
    assert (lost.status_code, labels.status_code, ready.status_code, live.status_code) == (503, 503, 503, 200)
    assert lost.headers["retry-after"] == "1"
    assert "disk full" in ready.json()["log"]
    assert (again.status_code, ready_again.status_code, len(log.predictions())) == (200, 200, 1)


def test_a_row_that_the_model_fails_on_fails_its_own_request_only(log):
    def picky(rows):
        if any(row["seats"] == 13 for row in rows):
            raise ZeroDivisionError
        return [0.1] * len(rows)

    world = World(log, servable(predict=picky))

    async def scenario(client):
        bodies = [rows_of(2), {"rows": [ROW | {"seats": 13}]}, {"rows": [ROW]}]
        return await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))

    assert [reply.status_code for reply in world.run(scenario)] == [200, 500, 200]
    assert len(log.predictions()) == 3


def test_a_crowd_hears_503_and_those_in_front_are_answered(log, monkeypatch):
    held = Held()
    world = World(log, servable(predict=held))

    async def scenario(client):
        service = world.app.state.service
        service.champions._room = 10
        held.armed = True
        first = asyncio.create_task(client.post("/predict", json=rows_of(1)))
        await eventually(held.begun.is_set)
        waiting = asyncio.create_task(client.post("/predict", json=rows_of(10)))
        await eventually(lambda: service.champions.waiting == 10)
        refused = await client.post("/predict", json={"rows": [ROW]})
        held.go.set()
        return refused, await first, await waiting

    refused, first, waiting = world.run(scenario)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (first.status_code, waiting.status_code) == (200, 200)


# Who is in charge


def test_another_champion_is_taken_up_under_load_without_a_failed_request(log):
    world = World(log, servable(1), servable(2), refresh_seconds=0.01)

    async def scenario(client):
        seen = Counter()
        for turn in range(300):
            world.rollout = Rollout(champion=1 + turn // 30 % 2)
            reply = await client.post("/predict", json={"rows": [ROW]})
            seen[reply.status_code, reply.json()["predictions"][0]["model_version"]] += 1
        return seen

    seen = world.run(scenario)
    assert set(seen) == {(200, 1), (200, 2)}
    assert world.loaded == {1: 1, 2: 1}, "switching back and forth needs no file"


BROKEN = {
    "it cannot be loaded": ValueError("the file was changed"),
    "it fails on its example": servable(2, predict=lambda rows: 1 / 0),
    "it gives no probability": servable(2, predict=lambda rows: [7.0] * len(rows)),
    "it gives too few": servable(2, predict=lambda rows: []),
    "its example does not fit": servable(2, example=[{"wind": 1.0}]),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_champion_that_does_not_work_is_refused_and_the_old_one_serves_on(log, broken):
    world = World(log, servable(1))
    world.models[2] = broken

    async def scenario(client):
        world.rollout = Rollout(champion=2)
        await client.post("/refresh")
        ready, reply = await client.get("/ready"), await client.post("/predict", json=rows_of(1))
        world.models[2] = servable(2)
        return ready, reply, await client.post("/refresh")

    ready, reply, repaired = world.run(scenario)
    assert (ready.status_code, ready.json()["version"], list(ready.json()["refused"])) == (200, 1, ["2"])
    assert reply.json()["predictions"][0]["model_version"] == 1
    assert repaired.json() == {"version": 2, "refused": {}}


def test_a_refused_version_is_not_loaded_again_every_second(log):
    world = World(log, servable(1), refresh_seconds=0.01)
    world.models[2] = ValueError("broken")

    async def scenario(client):
        world.rollout = Rollout(champion=2)
        await eventually(lambda: world.loaded[2])
        await asyncio.sleep(0.1)

    world.run(scenario)
    assert world.loaded[2] == 1


def test_a_registry_that_does_not_answer_is_reported_and_survived(log):
    world = World(log)

    async def scenario(client):
        champion, world.rollout = world.rollout, OSError("no route")
        await client.post("/refresh")
        ready, reply = await client.get("/ready"), await client.post("/predict", json=rows_of(1))
        world.rollout = champion
        return ready, reply, await client.post("/refresh")

    ready, reply, repaired = world.run(scenario)
    assert "no route" in ready.json()["refused"]["registry"]
    assert (ready.status_code, reply.status_code, repaired.json()["refused"]) == (200, 200, {})


def test_without_a_champion_the_service_lives_and_says_so(log):
    world = World(log)
    world.rollout = Rollout(champion=None)

    async def scenario(client):
        paths = ("/live", "/ready", "/model", "/", "/docs", "/openapi.json")
        return [(await client.post("/predict", json=rows_of(1))).status_code] + [
            (await client.get(path)).status_code for path in paths
        ]

    assert world.run(scenario) == [503, 200, 503, 503, 200, 200, 200]


def test_the_description_follows_the_champion_and_its_example_is_answered(log):
    other = {"speed": "double"}
    world = World(log, servable(1), servable(2, inputs=other, optional=[], categories={}, example=[{"speed": 1.0}]))

    async def scenario(client):
        answered = []
        for version in (1, 2):
            world.rollout = Rollout(champion=version)
            await client.post("/refresh")
            described = (await client.get("/openapi.json")).json()
            content = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
            reply = await client.post(
                "/predict", json={"rows": [content["example"]["rows"][0] | {"id": f"e{version}"}]}
            )
            answered.append((reply.status_code, sorted(described["components"]["schemas"]["Row"]["properties"])))
        return answered

    assert world.run(scenario) == [(200, sorted([*INPUTS, "id"])), (200, ["id", "speed"])]


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_from_elsewhere(log, path):
    page = World(log).run(lambda client: client.get(path)).text
    assert "<html" in page
    assert re.findall(r"""(?:src|href|url)\s*[=:(]\s*["']?(?:https?:)?//[^\s>]*""", page) == []


# Canary


def with_canary(log, challenger, **settings):
    world = World(log, servable(1), challenger, **settings)
    world.rollout = Rollout(1, 2, "canary", 0.25, takes=lambda ids: [int(name[1:]) % 4 == 0 for name in ids])
    return world


def test_a_canary_answers_its_share_by_its_own_threshold_and_the_log_says_so(log):
    world = with_canary(log, servable(2, threshold=0.01))
    answers = world.ask(rows_of(40)).json()["predictions"]
    assert [answer["model_version"] for answer in answers] == [2, 1, 1, 1] * 10
    assert [answer["decision"] for answer in answers] == [n % 4 == 0 and n > 0 for n in range(40)]
    kept = log.predictions()
    assert (kept["assigned_version"] == kept["model_version"]).all()
    assert set(kept["share"]) == {0.25}


def slow(rows):
    if len(rows) > 1 or rows[0]["seats"] != ROW["seats"] or rows[0].get("wind") != ROW["wind"]:
        threading.Event().wait(0.5)
    return [0.9] * len(rows)


def failing(rows):
    return [0.9] if len(rows) == 1 and rows[0].get("wind") == ROW["wind"] else 1 / 0


FAULTY = {"raises": failing, "is slow": slow, "talks nonsense": lambda rows: [0.9] if len(rows) == 1 else [np.nan]}


@pytest.mark.parametrize("predict", FAULTY.values(), ids=FAULTY)
def test_where_a_canary_fails_the_champion_answers_and_the_log_keeps_whose_turn_it_was(log, predict):
    world = with_canary(log, servable(2, predict=predict), challenger_seconds=0.05)

    async def scenario(client):
        reply = await client.post("/predict", json=rows_of(8))
        return reply, (await client.get("/metrics")).text

    reply, metrics = world.run(scenario)
    assert [answer["probability"] for answer in reply.json()["predictions"]] == [n / 100 for n in range(8)]
    kept = log.predictions()
    assert kept["model_version"].tolist() == [1] * 8
    assert kept["assigned_version"].tolist() == [2, 1, 1, 1] * 2
    assert "canary_fallbacks_total 2.0" in metrics


def test_a_canary_with_other_inputs_is_refused(log):
    other = servable(2, inputs={"speed": "double"}, optional=[], categories={}, example=[{"speed": 1.0}])
    world = with_canary(log, other)

    async def scenario(client):
        return await client.get("/ready"), await client.post("/predict", json=rows_of(8))

    ready, reply = world.run(scenario)
    assert "inputs of the champion" in ready.json()["refused"]["2"]
    assert {answer["model_version"] for answer in reply.json()["predictions"]} == {1}


def test_a_shadow_is_not_loaded_here_and_changes_no_reply(log):
    world = with_canary(log, servable(2))
    world.rollout = Rollout(1, 2, "shadow", takes=lambda ids: [True] * len(ids))
    assert {answer["model_version"] for answer in world.ask(rows_of(8)).json()["predictions"]} == {1}
    assert world.loaded == {1: 1}


# Labels


def test_labels_come_late_out_of_order_and_again(log):
    world = World(log)

    async def scenario(client):
        early = await client.post("/feedback", json={"labels": [{"id": "r1", "label": 0}]})
        await client.post("/predict", json=rows_of(3))
        label = {"id": "r0", "label": 1, "time": "2024-05-02T08:00:00+02:00"}
        late = [await client.post("/feedback", json={"labels": [label]}) for _ in range(2)]
        return early, *late, await client.post("/feedback", json={"labels": [{"id": "r0", "label": 0}]})

    early, late, again, other = world.run(scenario)
    assert early.json() == {"labels": 1, "without_prediction": ["r1"]}
    assert late.json() == again.json() == {"labels": 1, "without_prediction": []}
    assert (other.status_code, "r0" in other.json()["detail"]) == (409, True)
    labelled = log.labelled().set_index("id")
    assert labelled["label"].to_dict() == {"r1": 0, "r0": 1}
    assert labelled.loc["r0", "label_time"].hour == 6


@pytest.mark.parametrize("label", [2, -1, 0.5, "1", True, None])
def test_a_label_is_zero_or_one(log, label):
    reply = World(log).ask({"labels": [{"id": "a", "label": label}]}, path="/feedback")
    assert (reply.status_code, reply.json()["detail"][0]["loc"][-1]) == (422, "label")


# The coalescer by itself


def coalesced(handle, items, **settings):
    async def play():
        coalescer = Coalescer(handle, name="test", **settings)
        try:
            futures = [coalescer.submit(item, rows=1) for item in items]
            return await asyncio.gather(*futures, return_exceptions=True)
        finally:
            coalescer.close()

    return asyncio.run(play())


def test_each_caller_gets_the_outcome_of_its_own_item():
    assert coalesced(lambda items: [item * 2 for item in items], list(range(500)), most=7) == list(range(0, 1000, 2))


def test_an_item_that_fails_does_not_fail_its_neighbours():
    outcomes = coalesced(lambda items: [10 // item for item in items], [1, 0, 5])
    assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (10, ZeroDivisionError, 2)


def test_what_is_queued_is_handled_before_a_coalescer_closes():
    async def play():
        held = Held()
        held.armed = True
        coalescer = Coalescer(held, name="test")
        futures = [coalescer.submit(item, rows=1) for item in range(3)]
        threading.Timer(0.1, held.go.set).start()
        await asyncio.to_thread(coalescer.close)
        return sum(held.sizes), await asyncio.wait_for(asyncio.gather(*futures), 5)

    assert asyncio.run(play()) == (3, [0.1] * 3)


def test_a_closed_coalescer_takes_nothing_more():
    async def play():
        coalescer = Coalescer(lambda items: items, name="test")
        coalescer.close()
        coalescer.submit(1, rows=1)

    with pytest.raises(FullError):
        asyncio.run(play())
