"""Limits of the server, over real sockets: nobody holds a connection without asking, and no head is without end."""

import socket
from contextlib import closing, contextmanager
from threading import Thread
from time import monotonic, sleep

import pytest
import uvicorn

from mlops_course.system.service import protocol

PATIENCE = 120.0  # seconds: what takes a moment may take a minute on a busy machine
HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
ANSWER = b"HTTP/1.1 200 OK"


@contextmanager
def served():
    """An application that counts the bytes of each body, behind the protocol; yields a way to connect and its calls."""
    calls = []

    async def application(scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        calls.append(len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(application, port=0, lifespan="off", http=protocol._LimitedProtocol, log_config=None)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        end = monotonic() + PATIENCE
        while not server.started:
            assert monotonic() < end
            sleep(0.01)
        address = server.servers[0].sockets[0].getsockname()
        yield lambda: closing(socket.create_connection(address, timeout=PATIENCE)), calls
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def until_closed(connection):
    """What comes until the other end closes the connection."""
    came = b""
    while part := connection.recv(2**16):
        came += part
    return came


@pytest.mark.parametrize("sent", [b"", b"P", HEAD, HEAD + b"X-Long: " + b"x" * 1_000], ids=["", "P", "head", "header"])
def test_a_caller_who_does_not_go_on_asking_is_let_go(monkeypatch, sent):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
    with served() as (connect, calls), connect() as connection:
        connection.sendall(sent)
        assert (until_closed(connection), calls) == (b"", [])


def test_a_caller_who_stops_in_the_next_request_is_let_go_after_the_answer_to_the_first(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", PATIENCE)
    with served() as (connect, calls), connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        assert connection.recv(2**16).startswith(ANSWER)
        monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.05)
        connection.sendall(HEAD)
        assert (until_closed(connection), calls) == (b"", [0])


@pytest.mark.parametrize("name", [b"X-Long: ", b"GET /"], ids=["header", "path"])
def test_a_head_without_end_is_refused_before_it_is_all_here(monkeypatch, name):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", PATIENCE)
    with served() as (connect, calls), connect() as connection:
        connection.sendall((HEAD if name.endswith(b": ") else b"") + name)
        try:
            for _ in range(1_000):
                connection.sendall(b"x" * 2**16)
        except OSError:  # the server has closed
            pass
        else:
            pytest.fail("the server has read 64 MB of a head")
        assert calls == []


def test_a_long_body_is_no_long_head_and_a_connection_may_be_used_again(monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", PATIENCE)
    with served() as (connect, calls), connect() as connection:
        for size in (10 * protocol.MAX_HEAD, 0, 3):
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
            assert connection.recv(2**16).startswith(ANSWER)
        assert calls == [10 * protocol.MAX_HEAD, 0, 3]
