"""A registered model as a service: HTTP in front, workers behind, and no response that is not on record.

    Servable      a model as it is served: what it takes, how it answers, where it comes from
    ModelSource   which versions answer, and how to load one
    Rollout       which version answers, and which one is tried beside it
    MonitorView   what a monitor knows, as a page and as numbers, to be shown beside the service
    Settings      title, token, names and times of a service
    host_names    by which names callers know a server, by where it listens
    Guard         refuses requests under other names, and what pages of other sites would write
    create_app    the FastAPI application, made from models, a log, a clock and a monitor
    request_type  what a request must look like, made from the inputs in the model's contract

Requests that arrive while a batch is being answered become the next batch: one call of the model, then one transaction
of the log. When too many wait, or the log fails, the caller gets 503 and the time to wait before it asks again.

The service asks its source every second which version is in charge. A new one is loaded and tried on its example; then
it takes over between two batches, or is refused. A *canary* answers a share of the ids, the same ones each time; where
it fails or is slow, the champion answers.

>>> model = Servable(version=1, inputs={"wind": "double"}, optional=["wind"], categories={}, example=[{"wind": 4.5}],
...                  threshold=0.2, predict=lambda rows: [0.3] * len(rows), facts={"data_version": "d1"})
>>> request_type(model).validate_json('{"rows": [{"id": "a", "wind": 7}]}')
{'rows': [{'id': 'a', 'wind': 7.0}]}
>>> app = create_app(ModelSource(current=lambda: Rollout(champion=1), load=lambda version: model), log=None)
>>> sorted(app.openapi()["paths"])
['/feedback', '/live', '/metrics', '/model', '/monitor.json', '/predict', '/ready', '/refresh']
"""

from .app import create_app
from .guard import Guard, host_names
from .interface import ModelSource, MonitorView, Rollout, Servable, Settings
from .requests import MAX_ROWS, request_type

__all__ = [
    "MAX_ROWS",
    "Guard",
    "ModelSource",
    "MonitorView",
    "Rollout",
    "Servable",
    "Settings",
    "create_app",
    "host_names",
    "request_type",
]
