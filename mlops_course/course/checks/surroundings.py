"""Another day, another process, another computer: what a result by content must not depend on.

>>> import datetime
>>> def today():
...     return str(datetime.date.today())
>>> first = today()
>>> for where, change in elsewhere(today).items():
...     with change:
...         print(where, "-", today() == first)
In a second call - True
On another day - False
In another process or on another computer - True
"""

import contextlib
import datetime
import inspect
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from unittest import mock

import pandas as pd

__all__ = ["elsewhere"]


@contextlib.contextmanager
def _replaced(*names: tuple[object, str, object], own: dict[str, object] | None = None) -> Iterator[None]:
    """Names of modules replaced within the block, and what `own` names have imported of them."""
    pairs = [(getattr(owner, name), new) for owner, name, new in names]
    imported = {name: new for name, value in (own or {}).items() for old, new in pairs if value is old}
    with contextlib.ExitStack() as stack:
        for owner, name, new in names:
            stack.enter_context(mock.patch.object(owner, name, new))
        yield stack.enter_context(mock.patch.dict(own, imported)) if imported else None


def elsewhere(answer: Callable) -> dict[str, contextlib.AbstractContextManager]:
    """Surroundings in which a key has to stay the same, by their name; the clocks of another day are a year ahead."""
    then = time.time() + 366 * 86_400
    moment = time.localtime(then)

    class Day(datetime.date):
        today = classmethod(lambda cls: cls.fromtimestamp(then))

    class Moment(datetime.datetime):
        now = today = utcnow = classmethod(lambda cls, tz=None: cls.fromtimestamp(then, tz))

    clocks = {"time": then, "time_ns": int(then * 1e9), "localtime": moment, "gmtime": moment, "ctime": "2031"}
    day = [(time, name, lambda *_, shown=shown: shown) for name, shown in (clocks | {"strftime": "2031"}).items()]
    day += [(datetime, "date", Day), (datetime, "datetime", Moment)]
    day += [(pd.Timestamp, name, lambda *_, **__: pd.Timestamp(then, unit="s")) for name in ("now", "today")]
    away = [(os, "getpid", lambda: -1), (os, "getcwd", lambda: "/away")]
    away += [(platform, "node", lambda: "away"), (socket, "gethostname", lambda: "away")]
    own = getattr(inspect.unwrap(answer), "__globals__", {})
    return {
        "In a second call": contextlib.nullcontext(),
        "On another day": _replaced(*day, own=own),
        "In another process or on another computer": _replaced(*away, own=own),
    }
