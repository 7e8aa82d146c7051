"""Ways to post to the application: without a network, or through a real server."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from fastapi import FastAPI

Post = Callable[[str, bytes], httpx.Response]  # of a path and a body


@contextmanager
def _in_process(app: "FastAPI") -> Iterator[Post]:
    """A way to post to the application without a network: every part of it runs but the socket."""
    loop = asyncio.new_event_loop()  # in a thread of its own, as the caller, in a notebook, may have one that runs
    thread = threading.Thread(target=loop.run_forever, name="replayed application")

    def run(step: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(step, loop).result()

    thread.start()
    try:
        lifespan = app.router.lifespan_context(app)
        run(lifespan.__aenter__())
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service", timeout=None)
        try:
            yield lambda path, body: run(client.post(path, content=body))
        finally:
            run(client.aclose())
            run(lifespan.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def _over_http(app: "FastAPI", began: Callable[[str], None]) -> Iterator[Post]:
    """A way to post to the application through a real server on a free port of this machine."""
    import uvicorn

    with closing(socket.create_server(("127.0.0.1", 0))) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="replayed service")
        thread.start()
        try:
            url = f"http://127.0.0.1:{bound.getsockname()[1]}"
            began(url)
            with httpx.Client(base_url=url, timeout=None) as client:
                yield lambda path, body: client.post(path, content=body)
        finally:
            server.should_exit = True
            thread.join()
