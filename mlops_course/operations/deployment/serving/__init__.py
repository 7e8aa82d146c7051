"""A registered model as a service: HTTP in front, workers behind, and no reply that is not on record.

    Servable      a model as it is served: what it takes, how it answers, where it comes from
    Rollout       which version answers, and which one is tried beside it
    Watched       what a monitor knows, as a page and as numbers, to be shown beside the service
    Coalescer     one thread that handles together whatever is waiting
    create_app    the FastAPI application, handed its world: how to load a model, where to log, what time it is
    request_type  what a request must look like, made from the inputs in the model's contract

Requests that arrive while a batch is being answered wait together and become the next batch: one vectorised call of the
model, however many they are; then, likewise, one transaction of the log. Nobody waits for a batch to fill. A reply is
sent after its predictions are on disk. When too many wait, or the log does not answer, the caller hears 503 and when to
come again.

The service asks its world every second which version is in charge. A new one is loaded and tried beside the old one and
then takes its place between two batches; one that cannot be loaded or fails its own example is refused, and the old one
stays. A *canary* answers a share of the ids, the same ones each time; where it fails or is slow, the champion answers.

>>> model = Servable(version=1, inputs={"wind": "double"}, optional=["wind"], categories={}, example=[{"wind": 4.5}],
...                  threshold=0.2, predict=lambda rows: [0.3] * len(rows), facts={"data_version": "d1"})
>>> request_type(model).validate_json('{"rows": [{"id": "a", "wind": 7}]}')
{'rows': [{'id': 'a', 'wind': 7.0}]}
>>> app = create_app(load=lambda version: model, current=lambda: Rollout(champion=1), log=None)
>>> sorted(app.openapi()["paths"])
['/feedback', '/live', '/metrics', '/model', '/monitor.json', '/predict', '/ready', '/refresh']
"""

from .app import create_app
from .batching import Coalescer
from .errors import FullError
from .handed import Rollout, Servable, Watched
from .requests import MAX_ROWS, request_type

__all__ = ["MAX_ROWS", "Coalescer", "FullError", "Rollout", "Servable", "Watched", "create_app", "request_type"]
