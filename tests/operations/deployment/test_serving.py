"""The service in one process: each caller gets its own answer, once it is on record, whatever goes wrong beside it."""

import asyncio
import inspect
import json
import re
import socket
import threading
from collections import Counter
from datetime import UTC, datetime
from time import monotonic

import httpx
import numpy as np
import pandas as pd
import pytest
import schemathesis

from mlops_course.operations.deployment import batch, serving
from mlops_course.operations.deployment.prediction_log import PredictionLog
from mlops_course.operations.deployment.serving import (
    ModelSource,
    MonitorView,
    Rollout,
    Servable,
    Settings,
    batching,
    refusals,
    service,
)
from mlops_course.operations.deployment.serving.batching import Batcher, QueueFullError

INPUTS = {"when": "datetime", "maker": "string", "wind": "double", "seats": "long", "night": "boolean"}
ROW = {"when": "2024-05-01T10:00:00", "maker": "Ajax", "wind": 4.5, "seats": 3, "night": False}
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
JSON = {"content-type": "application/json"}
HANGS_AFTER = 120.0  # seconds: then a test fails that would never end


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
    """What the application gets: models by version, the champion, and a log; counts the calls."""

    def __init__(self, log, *models, clock=lambda: NOON, monitor=None, **settings):
        self.models = {model.version: model for model in models or [servable()]}
        self.rollout = Rollout(champion=min(self.models))
        self.log, self.loaded, self.writes, self.looks = log, Counter(), 0, 0
        self.app = serving.create_app(
            ModelSource(current=self.current, load=lambda version: self.load(version)),
            self,
            settings=Settings(**{"refresh_seconds": 60.0} | settings),
            clock=clock,
            monitor=monitor,
        )

    def load(self, version):
        self.loaded[version] += 1
        if isinstance(self.models[version], Exception):
            raise self.models[version]
        return self.models[version]

    def current(self):
        self.looks += 1
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
                httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=HANGS_AFTER) as client,
            ):
                return await asyncio.wait_for(scenario(client), HANGS_AFTER)

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
    """A model that, once armed, waits until it is released, and says when it has begun."""

    def __init__(self, predict=lambda rows: [0.1] * len(rows)):
        self.predict, self.armed, self.sizes = predict, False, []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, rows, **also):
        if self.armed:
            self.sizes.append(len(rows))
            self.begun.set()
            assert self.go.wait(HANGS_AFTER)
        return self.predict(rows, **also)


class HeldLog:
    """A log that, once armed, waits until it is released, and says when it has begun."""

    def __init__(self, log):
        self.append = Held(log.append)
        self.unpredicted = log.unpredicted


def post_all(client, bodies, path="/predict"):
    return [asyncio.create_task(client.post(path, json=body)) for body in bodies]


async def together(client, held, batcher, bodies):
    """The replies to requests that all wait when the worker, which is busy with another one, becomes free."""
    held.armed = True
    (first,) = post_all(client, [{"rows": [ROW | {"id": "first"}]}])
    await eventually(held.begun.is_set)
    others = []
    for body in bodies:  # in this order
        rows = batcher().waiting + len(body["rows"])
        others += post_all(client, [body])
        await eventually(lambda rows=rows: batcher().waiting == rows)
    held.go.set()
    assert (await first).status_code == 200
    return await asyncio.gather(*others)


async def eventually(condition):
    deadline = monotonic() + HANGS_AFTER
    while not (await condition() if inspect.iscoroutinefunction(condition) else condition()):
        assert monotonic() < deadline, f"it did not happen within {HANGS_AFTER} seconds"
        await asyncio.sleep(0.005)


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


def test_callers_that_give_no_ids_get_their_own_answers_too(log):
    world, random = World(log), np.random.default_rng(1)
    winds = [random.integers(0, 100, size).astype(float).tolist() for size in random.integers(1, 60, 200)]
    bodies = [{"rows": [ROW | {"wind": wind} for wind in request]} for request in winds]

    async def scenario(client):
        return await asyncio.gather(*post_all(client, bodies))

    answers = [reply.json()["predictions"] for reply in world.run(scenario)]
    assert [[answer["probability"] for answer in reply] for reply in answers] == [
        [wind / 100 for wind in request] for request in winds
    ]
    kept = log.predictions()
    inputs = {name: json.loads(text)["wind"] for name, text in zip(kept["id"], kept["inputs"], strict=True)}
    told = [answer["id"] for reply in answers for answer in reply]
    assert inputs == dict(zip(told, [wind for request in winds for wind in request], strict=True))
    assert len(kept) == len(told)


def test_one_request_alone_waits_for_no_other(log):
    world = World(log)
    assert world.ask(rows_of(1)).status_code == 200
    assert world.writes == 1


def test_what_waits_for_the_log_is_kept_in_one_transaction(log):
    held = HeldLog(log)
    world = World(held)
    bodies = [{"rows": [ROW | {"id": f"o{n}"}]} for n in range(30)]
    replies = world.run(lambda client: together(client, held.append, lambda: world.app.state.service.recorder, bodies))
    assert {reply.status_code for reply in replies} == {200}
    assert (held.append.sizes, len(log.predictions())) == ([1, 30], 31)


def test_a_crowd_is_answered_in_batches_that_are_not_too_large(log):
    held = Held()
    world = World(log, servable(predict=held))
    bodies = [{"rows": [ROW] * 100}] * 30
    world.run(lambda client: together(client, held, lambda: world.app.state.service.champions, bodies))
    assert held.sizes == [1, batching.BATCH_ROWS, 3_000 - batching.BATCH_ROWS]


def test_one_conflict_does_not_fail_what_is_kept_together_with_it(log):
    held = HeldLog(log)
    world = World(held)
    new, same, other = {"id": "new"}, {"id": "first"}, {"id": "first", "wind": 9.0}
    bodies = [{"rows": [ROW | changes]} for changes in (new, other, same)]
    bodies.append({"rows": [ROW | {"id": "beside"}, ROW | other]})
    replies = world.run(lambda client: together(client, held.append, lambda: world.app.state.service.recorder, bodies))
    assert held.append.sizes[:2] == [1, 5], "they were not kept together"
    assert [reply.status_code for reply in replies] == [200, 409, 200, 409]
    assert sorted(log.predictions()["id"]) == ["first", "new"]


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
    "nothing for a required field": (ROW | {"seats": None}, "seats", "valid integer"),
    "a whole number beyond 64 bits": (ROW | {"seats": 2**63}, "seats", "less than or equal to 9223372036854775807"),
    "an id of two lines": (ROW | {"id": "a\n"}, "id", "match pattern"),
    "an id in another alphabet": (ROW | {"id": "ä"}, "id", "match pattern"),
    "an id without end": (ROW | {"id": "a" * 101}, "id", "match pattern"),
    "a number for an id": (ROW | {"id": 7}, "id", "valid string"),
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
    assert len(reply.json()["detail"]) == refusals.MAX_ERRORS
    assert len(reply.content) < 10_000


def test_a_body_without_end_is_not_read_to_its_end(log):
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 20 * refusals.MAX_BODY:
            sent += 2**16
            yield b" " * 2**16

    assert World(log).ask(None, content=endless(), headers=JSON).status_code == 413
    assert sent <= refusals.MAX_BODY + 2**17


def test_a_compressed_body_is_refused(log):
    assert World(log).ask(rows_of(1), headers={"content-encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer ☃".encode()}])
def test_without_the_token_nothing_is_done_and_with_it_everything(log, given):
    world, secret = World(log, token="s3cret"), {"authorization": "Bearer s3cret"}

    async def scenario(client):
        bodies = {"/predict": rows_of(1), "/feedback": {"labels": [{"id": "r0", "label": 1}]}, "/refresh": None}
        without = [(await client.post(path, json=body, headers=given)).status_code for path, body in bodies.items()]
        having = [(await client.post(path, json=body, headers=secret)).status_code for path, body in bodies.items()]
        read = ["/live", "/ready", "/model", "/metrics", "/docs", "/", "/openapi.json", "/monitor", "/monitor.json"]
        seen = [(await client.get(path, headers=given)).status_code for path in read]
        return without, having, seen

    assert world.run(scenario) == ([401] * 3, [200] * 3, [200] * 2 + [401] * 7)


def test_a_browser_shows_the_pages_to_who_knows_the_token(log):
    given = httpx.BasicAuth("anybody", "s3cret")
    seen = World(log, token="s3cret").run(lambda client: client.get("/", auth=given))
    assert seen.status_code == 200
    asked = World(log, token="s3cret").run(lambda client: client.get("/"))
    assert 'Basic realm="service"' in asked.headers.get_list("www-authenticate")


@pytest.mark.parametrize("token", ["tökén", "two\nlines", " blank", "s3cret\u200b"])
def test_a_token_that_fits_into_no_header_is_refused_at_once(token):
    with pytest.raises(ValueError, match="printable ASCII"):
        Settings(token=token)


# Which requests are taken at all


FROM_ELSEWHERE = {
    "text": (415, {"content-type": "text/plain"}),
    "form": (415, {"content-type": "application/x-www-form-urlencoded"}),
    "form of parts": (415, {"content-type": "multipart/form-data; boundary=x"}),
    "no type": (415, {"content-type": ""}),
    "two types": (415, [("content-type", "application/json"), ("content-type", "text/plain")]),
    "JSON of a kind": (415, {"content-type": "application/jsonp"}),
    "page of another site": (403, {"origin": "https://elsewhere.example"}),
    "page of another port": (403, {"origin": "http://127.0.0.1:8888"}),
    "page without a site": (403, {"origin": "null"}),
    "two origins": (403, [("origin", "http://127.0.0.1"), ("origin", "https://elsewhere.example")]),
    "site that says so": (403, {"sec-fetch-site": "cross-site"}),
    "another name": (421, {"host": "elsewhere.example"}),
    "name that begins alike": (421, {"host": "127.0.0.1.elsewhere.example"}),
    "name with a user": (421, {"host": "127.0.0.1@elsewhere.example"}),
    "no name": (421, {"host": ""}),
    "two names": (421, [("host", "127.0.0.1"), ("host", "elsewhere.example")]),
}


@pytest.mark.parametrize("path", ["/predict", "/feedback", "/refresh"])
@pytest.mark.parametrize(("status", "headers"), FROM_ELSEWHERE.values(), ids=FROM_ELSEWHERE)
def test_no_page_of_another_site_writes_to_the_service(log, path, status, headers):
    bodies = {"/predict": rows_of(1), "/feedback": {"labels": [{"id": "r0", "label": 1}]}, "/refresh": {}}
    own = [] if "content-type" in dict(headers) else [("content-type", "application/json")]
    given = [*own, *(headers.items() if isinstance(headers, dict) else headers)]
    world = World(log)
    reply = world.ask(None, path, content=json.dumps(bodies[path]), headers=given)
    assert (reply.status_code, world.writes) == (status, 0), reply.text
    assert set(reply.json()) == {"detail"}


def test_what_is_refused_at_the_door_is_counted_by_kind(log):
    """A burst of wrong tokens or foreign pages has to show."""
    known = {"authorization": "Bearer s3cret"}

    async def scenario(client):
        await client.post("/predict", json=rows_of(1))
        await client.post("/predict", json=rows_of(1), headers=known | {"origin": "https://elsewhere.example"})
        return (await client.get("/metrics", headers=known)).text

    metrics = World(log, token="s3cret").run(scenario)
    assert [f'errors_total{{kind="{kind}"}} 1.0' in metrics for kind in (401, 403)] == [True, True]


@pytest.mark.parametrize("headers", [FROM_ELSEWHERE[name][1] for name in ("another name", "two names", "no name")])
def test_nothing_is_read_under_another_name(log, headers):
    """Or a page would have its name mean this machine for a moment, and read what it likes."""
    paths = ["/", "/live", "/metrics", "/openapi.json"]
    for path in paths:
        assert World(log).run(lambda client, path=path: client.get(path, headers=headers)).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000"])
def test_the_service_answers_to_its_own_names_and_to_its_own_pages(log, host):
    given = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert World(log).ask(rows_of(1), headers=given).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_server_on_this_machine_has_no_other_name(host):
    assert set(serving.host_names(host)) == {"127.0.0.1", "localhost", "::1"}


def test_a_server_on_every_network_goes_by_all_names_of_the_machine_and_those_it_is_told():
    names = serving.host_names("0.0.0.0", also=["Models.example"])
    assert {"127.0.0.1", "localhost", socket.gethostname().lower(), "models.example"} <= set(names)
    assert "0.0.0.0" in names
    assert all(name == name.lower() for name in names)


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


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_is_none_is_named(log, number):
    content = json.dumps({"rows": [ROW]}).replace("4.5", number).encode()
    (defect,) = World(log).ask(None, content=content, headers=JSON).json()["detail"]
    assert (defect["loc"], defect["msg"]) == (["body", "rows", 0, "wind"], "Input should be a finite number")


@pytest.mark.parametrize("number", ["1e101", "-1e150", "1.7e308"])
def test_a_number_that_no_model_can_add_up_is_named_in_a_request_and_in_a_file(log, number):
    content = json.dumps({"rows": [ROW]}).replace("4.5", number).encode()
    (defect,) = World(log).ask(None, content=content, headers=JSON).json()["detail"]
    assert defect["loc"] == ["body", "rows", 0, "wind"]
    (problem,) = batch.problems(pd.DataFrame({"wind": [number]}), {"wind": "double"})["expected"]
    assert problem == "a number between -1e+100 and 1e+100"


@pytest.mark.parametrize("number", ["1e100", "-1e100", "5e-324", "0"])
def test_the_largest_and_the_smallest_numbers_are_taken_in_a_request_and_in_a_file(log, number):
    content = json.dumps({"rows": [ROW]}).replace("4.5", number).encode()
    assert World(log, servable(predict=lambda rows: [0.5])).ask(None, content=content, headers=JSON).status_code == 200
    assert batch.problems(pd.DataFrame({"wind": [number]}), {"wind": "double"}).empty


@pytest.mark.parametrize("where", ["beside the rows", "in a row", "in each row"])
def test_many_defects_are_counted_and_not_listed(log, monkeypatch, where):
    """To list them would keep all other callers waiting."""
    monkeypatch.setattr(refusals.ValidationError, "errors", lambda *_, **__: pytest.fail("listed"), raising=False)
    unknown = {f"x{number}": 0 for number in range(refusals.COUNTED + 1)}
    rows = {"beside the rows": {"rows": [ROW]} | unknown, "in a row": {"rows": [ROW | unknown]}}
    body = rows.get(where, {"rows": [ROW | {"x": 0, "y": 0}] * (refusals.COUNTED // 2 + 1)})
    reply = World(log).ask(body)
    assert (reply.status_code, "defects" in reply.text, len(reply.content) < 1_000) == (422, True, True)


def test_a_body_that_does_not_come_is_refused(log, monkeypatch):
    async def half():
        yield b'{"rows": ['
        await asyncio.Event().wait()

    monkeypatch.setattr(refusals, "BODY_SECONDS", 0.01)
    world = World(log)
    assert (world.ask(None, content=half(), headers=JSON).status_code, world.writes) == (408, 0)


def test_a_name_without_end_is_cut_short(log):
    reply = World(log).ask({"rows": [ROW | {"x" * 100_000: 1}]})
    assert (reply.status_code, len(reply.content) < 1_000) == (422, True)


def test_a_body_marked_as_not_compressed_is_read(log):
    assert World(log).ask(rows_of(1), headers={"content-encoding": "identity"}).status_code == 200


def test_a_caller_who_hangs_up_is_no_failure_of_the_service(log):
    world, said = World(log), []

    async def hang_up():
        return {"type": "http.disconnect"}

    async def note(message):
        said.append(message.get("status"))

    async def scenario(client):
        headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": headers}
        await world.app(scope, hang_up, note)
        return (await client.get("/metrics")).text

    assert 'errors_total{kind="400"} 1.0' in world.run(scenario)
    assert said[0] == 400


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_wrong_token_that_is_not_ascii_is_no_error(log, encoding):
    given = {"authorization": "Bearer tökén".encode(encoding)}
    assert World(log, token="s3cret").ask(rows_of(1), headers=given).status_code == 401


def test_what_is_refused_is_counted_by_kind(log):
    async def scenario(client):
        for body in ({"rows": []}, {"rows": [{}]}, rows_of(1), rows_of(1, wind=7.0)):
            await client.post("/predict", json=body)
        return (await client.get("/metrics")).text

    metrics = World(log).run(scenario)
    assert 'errors_total{kind="422"} 2.0' in metrics
    assert 'errors_total{kind="409"} 1.0' in metrics
    assert 'request_seconds_count{path="/predict"} 1.0' in metrics


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


def test_a_crowd_gets_503_and_those_in_front_are_answered(log, monkeypatch):
    held = Held()
    world = World(log, servable(predict=held))

    async def scenario(client):
        service = world.app.state.service
        service.champions._max_waiting = 10
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


def picky(error):
    """A model that fails on some rows, with any kind of error."""

    def predict(rows):
        if any(row["seats"] == 13 for row in rows):
            raise error
        return [0.1] * len(rows)

    return predict


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ValueError("13 seats"), StopIteration(), QueueFullError()], ids=repr
)
def test_a_failure_of_the_model_is_no_fault_of_the_caller_nor_of_its_neighbours(log, error):
    held = Held(picky(error))
    world = World(log, servable(predict=held))
    bodies = [rows_of(2), {"rows": [ROW | {"seats": 13, "wind": None}]}, {"rows": [ROW | {"wind": None}]}]

    async def scenario(client):
        replies = await together(client, held, lambda: world.app.state.service.champions, bodies)
        return replies, (await client.get("/metrics")).text

    replies, metrics = world.run(scenario)
    assert [reply.status_code for reply in replies] == [200, 500, 200]
    assert (held.sizes[:2], len(log.predictions())) == ([1, 4], 4)
    assert 'missing_values_total{feature="wind"} 1.0' in metrics, "what was not answered was counted"


def test_inputs_are_counted_once_though_another_model_fails_in_the_same_batch(log):
    held = Held()
    world = World(log, servable(1, predict=held), servable(2, predict=picky(KeyError())))

    async def scenario(client):
        held.armed = True
        first = post_all(client, [{"rows": [ROW]}])
        await eventually(held.begun.is_set)
        old = post_all(client, [{"rows": [ROW | {"wind": None}]}])
        await eventually(lambda: world.app.state.service.champions.waiting == 1)
        world.rollout = Rollout(2)
        await client.post("/refresh")
        new = post_all(client, [{"rows": [ROW | {"seats": 13}]}])
        await eventually(lambda: world.app.state.service.champions.waiting == 2)
        held.go.set()
        replies = await asyncio.gather(*first, *old, *new)
        return [reply.status_code for reply in replies], (await client.get("/metrics")).text

    statuses, metrics = world.run(scenario)
    assert statuses == [200, 200, 500]
    assert 'missing_values_total{feature="wind"} 1.0' in metrics


def test_a_log_that_is_well_again_is_found_so_without_a_request(log, monkeypatch):
    monkeypatch.setattr(service, "LOG_RETRY_SECONDS", 0.0)
    failing = Failing(log)
    world = World(failing, refresh_seconds=0.01)

    async def is_ready(client):
        return (await client.get("/ready")).status_code == 200

    async def scenario(client):
        await client.post("/predict", json=rows_of(1))
        world.writes = 0
        await eventually(lambda: world.writes > 2)
        still = await is_ready(client)
        failing.fails = False
        await eventually(lambda: not world.app.state.service.log_trouble)
        return still, await is_ready(client)

    assert world.run(scenario) == (False, True)
    assert log.predictions().empty


def test_labels_are_not_kept_where_the_log_cannot_be_read(log):
    world = World(log)
    world.unpredicted = lambda ids: 1 / 0
    reply = world.ask({"labels": [{"id": "r0", "label": 1}]}, path="/feedback")
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    log.append(labels=[{"id": "r0", "label": 0, "time": NOON}])  # contradicts nothing


def test_as_many_rows_may_wait_as_is_said_and_no_more(log):
    held = Held()
    world = World(log, servable(predict=held))
    bodies = [{"rows": [ROW] * 1_000}] * (batching.MAX_WAITING // 1_000)

    async def scenario(client):
        champions = world.app.state.service.champions
        held.armed = True
        asked = post_all(client, [rows_of(1)])
        await eventually(held.begun.is_set)
        asked += post_all(client, bodies)
        await eventually(lambda: champions.waiting == batching.MAX_WAITING)
        refused, metrics = await client.post("/predict", json={"rows": [ROW]}), await client.get("/metrics")
        held.go.set()
        return refused.status_code, metrics.text, {reply.status_code for reply in await asyncio.gather(*asked)}

    refused, metrics, statuses = world.run(scenario)
    assert (refused, statuses) == (503, {200})
    assert "waiting_rows 20000.0" in metrics


def test_a_crowd_that_waits_for_the_log_gets_503(log):
    held = HeldLog(log)
    world = World(held)

    async def scenario(client):
        recorder = world.app.state.service.recorder
        recorder._max_waiting = 10
        held.append.armed = True
        asked = post_all(client, [rows_of(1)])
        await eventually(held.append.begun.is_set)
        asked += post_all(client, [{"rows": [ROW] * 10}])
        await eventually(lambda: recorder.waiting == 10)
        refused = await client.post("/predict", json={"rows": [ROW]})
        held.append.go.set()
        return refused, {reply.status_code for reply in await asyncio.gather(*asked)}

    refused, statuses = world.run(scenario)
    assert (refused.status_code, refused.headers["retry-after"], statuses) == (503, "1", {200})
    assert len(log.predictions()) == 11


@pytest.mark.parametrize(("mode", "seats"), [("", 3), ("canary", 3), ("canary", 13)], ids=["", "canary", "it fails"])
def test_requests_on_their_way_are_answered_when_the_service_ends(log, monkeypatch, mode, seats):
    monkeypatch.setattr(service, "CLOSE_SECONDS", HANGS_AFTER)
    held, asked, still_open = Held(picky(KeyError())), [], []
    models = [servable(1, predict=None if mode else held), servable(2, predict=held)]
    world = World(log, *models, challenger_seconds=HANGS_AFTER)
    world.rollout = Rollout(1, 2, mode, takes=lambda ids: [True] * len(ids))

    async def scenario(client):
        service = world.app.state.service
        held.armed = True
        asked.extend(post_all(client, [rows_of(1)]))
        await eventually(held.begun.is_set)
        asked.extend(post_all(client, [{"rows": [ROW | {"seats": seats, "id": f"q{n}"}]} for n in range(5)]))
        await eventually(lambda: service.champions.waiting + service.canaries.waiting == 5)
        monkeypatch.setattr(service, "close", let_go_once_it_closes(service, service.close))

    def let_go_once_it_closes(service, close):
        async def closing():
            ending = asyncio.create_task(close())
            await asyncio.sleep(0.05)  # room for a mistake: what does not wait for those who have asked closes now
            still_open.extend(part._open for part in (service.champions, service.canaries, service.recorder))
            held.go.set()
            await ending

        return closing

    async def play():
        transport = httpx.ASGITransport(app=world.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=HANGS_AFTER) as client:
            async with world.app.router.lifespan_context(world.app):
                await scenario(client)
            return [reply.status_code for reply in await asyncio.gather(*asked)]

    assert asyncio.run(play()) == [200] * 6
    assert (still_open, len(log.predictions())) == ([True] * 3, 6)


# Who is in charge


def test_another_champion_is_taken_up_by_itself_under_load_without_a_failed_request(log):
    world = World(log, servable(1), servable(2), refresh_seconds=0.01)

    async def ask_until(client, version):
        found = 0
        while found != version:
            reply = await client.post("/predict", json={"rows": [ROW]})
            assert reply.status_code == 200
            found = reply.json()["predictions"][0]["model_version"]

    async def scenario(client):
        for version in (1, 2, 1, 2):
            world.rollout = Rollout(champion=version)
            await ask_until(client, version)

    world.run(scenario)
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


def test_a_refused_version_is_not_loaded_again_every_second(log, monkeypatch):
    monkeypatch.setattr(service, "RELOAD_SECONDS", HANGS_AFTER)
    world = World(log, servable(1), refresh_seconds=0.01)
    world.models[2] = ValueError("broken")

    async def scenario(client):
        world.rollout = Rollout(champion=2)
        await eventually(lambda: world.loaded[2])
        enough = world.looks + 5
        await eventually(lambda: world.looks > enough)

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


def test_many_callers_at_once_notice_nothing_of_a_new_champion_but_its_answers(log):
    world = World(log, *(servable(n, predict=lambda rows, n=n: [n / 10] * len(rows)) for n in (1, 2)))

    async def caller(client, stop, seen):
        while not stop.is_set():
            reply = await client.post("/predict", json={"rows": [ROW] * 3})
            seen += [(reply.status_code, a["model_version"], a["probability"]) for a in reply.json()["predictions"]]

    async def scenario(client):
        stop, seen = asyncio.Event(), []
        callers = [asyncio.create_task(caller(client, stop, seen)) for _ in range(16)]
        for turn in range(20):
            world.rollout = Rollout(1 + turn % 2)
            version = (await client.post("/refresh")).json()["version"]
            reply = await client.post("/predict", json={"rows": [ROW]})
            assert reply.json()["predictions"][0]["model_version"] == version == 1 + turn % 2
        stop.set()
        await asyncio.gather(*callers)
        return seen

    assert set(world.run(scenario)) == {(200, 1, 0.1), (200, 2, 0.2)}


def test_a_request_checked_against_the_old_champion_is_answered_by_it(log):
    held = Held(lambda rows: [row["wind"] / 100 for row in rows])
    other = servable(2, inputs={"speed": "double"}, optional=[], categories={}, example=[{"speed": 1.0}])
    world = World(log, servable(1, predict=held), other)

    async def scenario(client):
        held.armed = True
        old = post_all(client, [rows_of(1)])
        await eventually(held.begun.is_set)
        old += post_all(client, [{"rows": [ROW]}])
        await eventually(lambda: world.app.state.service.champions.waiting == 1)
        world.rollout = Rollout(2)
        await client.post("/refresh")
        new = post_all(client, [{"rows": [{"speed": 1.0}]}, {"rows": [ROW]}])
        held.go.set()
        return await asyncio.gather(*old, *new)

    replies = world.run(scenario)
    assert [reply.status_code for reply in replies] == [200, 200, 200, 422]
    assert [reply.json()["predictions"][0]["model_version"] for reply in replies[:3]] == [1, 1, 2]
    kept = log.predictions()
    assert (kept["assigned_version"] == kept["model_version"]).all()


def test_callers_are_answered_while_a_new_champion_is_loaded(log):
    loading, go = threading.Event(), threading.Event()
    world = World(log, servable(1), servable(2))

    async def scenario(client):
        def load(version):
            loading.set()
            assert go.wait(HANGS_AFTER)
            return servable(version)

        world.load = load
        world.rollout = Rollout(2)
        refreshing = post_all(client, [None], path="/refresh")
        await eventually(loading.is_set)
        meanwhile = await client.post("/predict", json={"rows": [ROW]})
        go.set()
        return meanwhile.json()["predictions"][0]["model_version"], (await refreshing[0]).json()["version"]

    assert world.run(scenario) == (1, 2)


def test_a_refused_version_gets_another_try_when_patience_ends(log, monkeypatch):
    monkeypatch.setattr(service, "RELOAD_SECONDS", 0.02)
    world = World(log, servable(1), refresh_seconds=0.01)
    world.models[2] = OSError("the disk is away")

    async def scenario(client):
        world.rollout = Rollout(2)
        await eventually(lambda: world.loaded[2] > 1)
        world.models[2] = servable(2)
        await eventually(lambda: world.app.state.service.active.champion.version == 2)
        return (await client.get("/ready")).json()

    assert world.run(scenario) == {"ready": True, "version": 2, "refused": {}, "log": "ok"}


def test_a_version_that_is_no_longer_wanted_is_no_longer_shown_as_refused(log):
    world = World(log, servable(1))
    world.models[2] = OSError("the disk is away")

    async def scenario(client):
        told = []
        for version in (2, 1):
            world.rollout = Rollout(version)
            told.append(list((await client.post("/refresh")).json()["refused"]))
        return told

    assert world.run(scenario) == [["2"], []]


def test_the_page_shows_what_is_refused_and_takes_no_markup_from_it(log):
    world = World(log, servable(1, facts={"data_version": "<b>d1</b>"}))
    world.models[2] = OSError("<script>alert(1)</script>")

    async def scenario(client):
        world.rollout = Rollout(2)
        await client.post("/refresh")
        return (await client.get("/")).text

    page = world.run(scenario)
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "&lt;b&gt;d1" in page


@pytest.mark.parametrize("token", ["", "s3cret"])
def test_the_description_is_valid_and_says_where_no_token_is_wanted(log, token):
    given = {"authorization": f"Bearer {token}"}
    described = World(log, token=token).run(lambda client: client.get("/openapi.json", headers=given)).json()
    schemathesis.openapi.from_dict(described).validate()
    open_ = {path for path, methods in described["paths"].items() for how in methods.values() if "security" in how}
    assert (described.get("security"), open_) == (([{"token": []}], {"/live", "/ready"}) if token else (None, set()))


# Watched


def watched(state, *, page=lambda known: f"<h1>{known['rows']}</h1>"):
    def gauges(known):
        return [
            ("monitor_rows", "Rows", {}, known["rows"]),
            ("monitor_drift", "Drift", {"feature": "wind", "measure": "psi"}, 0.25),
            ("monitor_drift", "Drift", {"feature": "seats", "measure": "psi"}, 0.5),
        ]

    return MonitorView(state, page, gauges)


def get_all(world, *paths):
    async def scenario(client):
        return [await client.get(path) for path in paths]

    return world.run(scenario)


def test_what_a_monitor_knows_is_shown_as_a_page_as_numbers_and_as_gauges(log):
    world = World(log, monitor=watched(lambda: {"rows": 912, "loss": float("nan")}))
    page, known, metrics, home = get_all(world, "/monitor", "/monitor.json", "/metrics", "/")
    assert (page.text, page.headers["content-type"]) == ("<h1>912</h1>", "text/html; charset=utf-8")
    assert known.json() == {"rows": 912, "loss": None}
    assert "\nmonitor_rows 912.0\n" in metrics.text
    assert 'monitor_drift{feature="wind",measure="psi"} 0.25' in metrics.text
    assert 'monitor_drift{feature="seats",measure="psi"} 0.5' in metrics.text
    assert metrics.text.count("# TYPE monitor_drift gauge") == 1
    assert 'href="monitor"' in home.text


def broken():
    raise OSError("<b>no disk</b>")


def bad_page(known):
    return known["there is none"]


TROUBLES = {
    "nobody watches": (None, 404, "nobody watches"),
    "it has not looked": (watched(lambda: None), 503, "has not looked yet"),
    "it fails": (watched(broken), 503, "OSError: &lt;b&gt;no disk"),
    "its page fails": (watched(lambda: {"rows": 1}, page=bad_page), 503, "KeyError"),
}


@pytest.mark.parametrize(("monitor", "status", "why"), TROUBLES.values(), ids=TROUBLES)
def test_the_page_says_why_there_is_nothing_to_show_and_tries_again(log, monitor, status, why):
    (page,) = get_all(World(log, monitor=monitor), "/monitor")
    assert page.status_code == status
    assert why in page.text
    assert '<meta http-equiv="refresh"' in page.text


@pytest.mark.parametrize("path", ["/monitor", "/monitor.json"])
def test_a_monitor_that_fails_keeps_no_prediction_and_no_measurement_back(log, path):
    world = World(log, monitor=watched(broken))

    async def scenario(client):
        asked = await client.get(path)
        return asked, await client.post("/predict", json=rows_of(3)), await client.get("/metrics")

    asked, answered, metrics = world.run(scenario)
    assert (asked.status_code, asked.headers["retry-after"], answered.status_code) == (503, "1", 200)
    assert 'predictions_total{model_version="1"} 3.0' in metrics.text
    assert "monitor_" not in metrics.text


def test_predictions_are_answered_while_a_page_is_made(log):
    held = Held(lambda known: "made")
    held.armed = True
    world = World(log, monitor=watched(lambda: {"rows": 1}, page=held))

    async def scenario(client):
        page = asyncio.create_task(client.get("/monitor"))
        await eventually(held.begun.is_set)
        answered = await client.post("/predict", json=rows_of(1))
        held.go.set()
        return answered.status_code, (await page).text

    assert world.run(scenario) == (200, "made")


def test_where_nobody_watches_no_page_links_to_the_monitor(log):
    home, metrics, known = get_all(World(log), "/", "/metrics", "/monitor.json")
    assert "monitor" not in home.text
    assert "monitor" not in metrics.text
    assert (known.status_code, known.json()) == (404, {"detail": "nobody watches this service"})


# Canary


def with_canary(log, challenger, **settings):
    """A world in which every fourth row is the canary's, which has all the time it wants unless told otherwise."""
    world = World(log, servable(1), challenger, **{"challenger_seconds": HANGS_AFTER} | settings)
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


def failing(rows):
    return [0.9] if len(rows) == 1 and rows[0].get("wind") == ROW["wind"] else 1 / 0


@pytest.mark.parametrize(
    "predict",
    [failing, lambda rows: [0.9] if len(rows) == 1 else [np.nan], None],
    ids=["raises", "talks nonsense", "is slow"],
)
def test_where_a_canary_fails_the_champion_answers_and_the_log_keeps_whose_turn_it_was(log, predict):
    held = Held()
    world = with_canary(log, servable(2, predict=predict or held), **({} if predict else {"challenger_seconds": 0.05}))

    async def scenario(client):
        held.armed = True
        reply = await client.post("/predict", json=rows_of(8))  # a slow one is held until it was answered
        held.go.set()
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


def test_a_slow_canary_keeps_nobody_waiting_whose_turn_it_is_not(log):
    held = Held()
    world = with_canary(log, servable(2, predict=held))

    async def scenario(client):
        held.armed = True
        slow = post_all(client, [{"rows": [ROW | {"id": "r0"}]}])
        await eventually(held.begun.is_set)
        quick = await client.post("/predict", json={"rows": [ROW | {"id": "r1"}]})
        waiting = not slow[0].done()
        held.go.set()
        return waiting, quick.json()["predictions"][0], (await slow[0]).json()["predictions"][0]

    waiting, quick, slow = world.run(scenario)
    assert (waiting, quick["model_version"], slow["model_version"], slow["probability"]) == (True, 1, 2, 0.1)


def test_when_too_many_wait_for_the_canary_the_champion_answers(log):
    held = Held()
    world = with_canary(log, servable(2, predict=held))

    async def scenario(client):
        canaries = world.app.state.service.canaries
        canaries._max_waiting, held.armed = 1, True
        asked = post_all(client, [{"rows": [ROW | {"id": "r0"}]}])
        await eventually(held.begun.is_set)
        asked += post_all(client, [{"rows": [ROW | {"id": "r4"}]}])
        await eventually(lambda: canaries.waiting == 1)
        over = await client.post("/predict", json={"rows": [ROW | {"id": "r8"}]})
        held.go.set()
        return [reply.json()["predictions"][0]["model_version"] for reply in (over, *await asyncio.gather(*asked))]

    assert world.run(scenario) == [1, 2, 2]


def test_asking_again_gets_the_answer_of_the_canary_even_when_it_has_gone(log):
    world = with_canary(log, servable(2, predict=lambda rows: [0.9] * len(rows)))

    async def scenario(client):
        first = await client.post("/predict", json=rows_of(8))
        world.rollout = Rollout(1)
        await client.post("/refresh")
        return first.json(), (await client.post("/predict", json=rows_of(8))).json()

    first, again = world.run(scenario)
    assert first == again
    assert [answer["model_version"] for answer in first["predictions"]] == [2, 1, 1, 1] * 2


def test_a_version_refused_as_canary_may_become_champion_at_once(log):
    other = servable(2, inputs={"speed": "double"}, optional=[], categories={}, example=[{"speed": 1.0}])
    world = with_canary(log, other, refresh_seconds=0.01)

    async def scenario(client):
        refused = (await client.get("/ready")).json()["refused"]
        world.rollout = Rollout(2)
        await eventually(lambda: world.app.state.service.active.champion.version == 2)
        return list(refused), (await client.get("/ready")).json()["refused"]

    assert world.run(scenario) == (["2"], {})


def test_without_a_canary_the_share_on_record_is_none(log):
    world = with_canary(log, servable(2))
    world.models[2] = OSError("the disk is away")
    assert world.ask(rows_of(8)).status_code == 200
    kept = log.predictions()
    assert (set(kept["share"]), set(kept["assigned_version"])) == ({0.0}, {1})


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


@pytest.mark.parametrize(
    ("second", "status", "kept"), [(1, 200, {"r0": 1}), (0, 409, {})], ids=["the same again", "another one"]
)
def test_two_labels_of_one_id_in_one_request_agree_or_nothing_is_kept(log, second, status, kept):
    world = World(log)
    labels = [{"id": "r0", "label": 1}, {"id": "r0", "label": second}]

    async def scenario(client):
        await client.post("/predict", json=rows_of(1))
        return await client.post("/feedback", json={"labels": labels})

    assert world.run(scenario).status_code == status
    assert log.labelled().set_index("id")["label"].to_dict() == kept


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_that_does_not_exist_in_utc_is_refused(log, time):
    reply = World(log).ask({"labels": [{"id": "a", "label": 1, "time": time}]}, path="/feedback")
    (defect,) = reply.json()["detail"]
    assert (reply.status_code, defect["loc"]) == (422, ["body", "labels", 0, "time"])
    assert "years 1 and 9999" in defect["msg"]


def test_a_label_without_its_time_gets_that_of_the_clock(log):
    world = World(log)

    async def scenario(client):
        await client.post("/predict", json=rows_of(1))
        await client.post("/feedback", json={"labels": [{"id": "r0", "label": 1}]})

    world.run(scenario)
    assert log.labelled()["label_time"].tolist() == [NOON]


# The batcher by itself


def batched(handle, items):
    async def play():
        batcher = Batcher(handle, name="test")
        try:
            futures = [batcher.submit(item, rows=1) for item in items]
            return await asyncio.gather(*futures, return_exceptions=True)
        finally:
            batcher.close()

    return asyncio.run(play())


def test_each_caller_gets_the_outcome_of_its_own_item(monkeypatch):
    monkeypatch.setattr(batching, "BATCH_ROWS", 7)
    assert batched(lambda items: [item * 2 for item in items], range(500)) == [*range(0, 1000, 2)]


def test_an_item_that_fails_does_not_fail_its_neighbours():
    outcomes = batched(lambda items: [10 // item for item in items], [1, 0, 5])
    assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (10, ZeroDivisionError, 2)


def test_what_is_queued_is_handled_before_a_batcher_closes(monkeypatch):
    monkeypatch.setattr(batching, "BATCH_ROWS", 1)

    async def play():
        held = Held()
        held.armed = True
        batcher = Batcher(held, name="test")
        futures = [batcher.submit(item, rows=1) for item in range(3)]
        closing = asyncio.create_task(asyncio.to_thread(batcher.close, seconds=HANGS_AFTER))
        await eventually(lambda: not batcher._open)
        waits = not closing.done()
        held.go.set()
        await closing
        return waits, sum(held.sizes), await asyncio.wait_for(asyncio.gather(*futures), HANGS_AFTER)

    assert asyncio.run(play()) == (True, 3, [0.1] * 3)


def test_a_closed_batcher_takes_nothing_more():
    async def play():
        batcher = Batcher(lambda items: items, name="test")
        batcher.close()
        batcher.submit(1, rows=1)

    with pytest.raises(QueueFullError):
        asyncio.run(play())


def test_each_is_told_its_own_outcome_though_some_outcomes_are_errors():
    outcomes = batched(lambda items: [KeyError(item) if item % 2 else item for item in items], range(6))
    assert outcomes[::2] == [0, 2, 4]
    assert [error.args for error in outcomes[1::2]] == [(1,), (3,), (5,)]


def test_what_waits_beyond_the_room_is_refused_and_one_alone_never():
    held = Held(lambda items: items)
    held.armed = True

    async def play():
        batcher = Batcher(held, name="test")
        batcher._max_waiting = 10
        large = batcher.submit("large", rows=11)
        await eventually(held.begun.is_set)
        waiting = batcher.submit("ten", rows=10)
        with pytest.raises(QueueFullError, match="10 rows are waiting"):
            batcher.submit("one", rows=1)
        held.go.set()
        outcomes = await asyncio.gather(large, waiting)
        batcher.close()
        return outcomes

    assert asyncio.run(play()) == ["large", "ten"]


def test_a_caller_who_has_gone_does_not_keep_the_others_from_their_outcomes():
    held = Held(lambda items: items)
    held.armed = True

    async def play():
        batcher = Batcher(held, name="test")
        futures = [batcher.submit(item, rows=1) for item in range(3)]
        await eventually(held.begun.is_set)
        futures[0].cancel()
        held.go.set()
        outcomes = await asyncio.wait_for(asyncio.gather(*futures[1:]), HANGS_AFTER)
        batcher.close()
        return outcomes

    assert asyncio.run(play()) == [1, 2]


def test_a_loop_that_is_closed_does_not_stop_the_worker():
    held = Held(lambda items: items)
    held.armed = True
    batcher = Batcher(held, name="test")

    async def leave():
        batcher.submit("lost", rows=1)
        await eventually(held.begun.is_set)

    async def ask():
        return await asyncio.wait_for(batcher.submit("heard", rows=1), HANGS_AFTER)

    asyncio.run(leave())
    held.go.set()
    assert asyncio.run(ask()) == "heard"
    batcher.close()
