"""The pages in front of a room, without the room: secrets cannot be guessed at the speed of a network."""

import asyncio
import os
import stat

import httpx
import pytest

from mlops_course.course.classroom import front
from mlops_course.course.classroom.room import Room


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def visitor(tmp_path, clock):
    """Function that returns a browser at an address; MLflow does not answer, so a right code gets 503."""
    room = Room(tmp_path, "sqlite", 9, 9, code="right", password="right", secret="s")
    app = front.application(room, clock=clock)

    def at(address):
        async def answered(method, path, **sent):
            way = httpx.ASGITransport(app, client=(address, 1234))
            async with httpx.AsyncClient(transport=way, base_url="http://127.0.0.1") as browser:
                return (await browser.request(method, path, **sent)).status_code

        return lambda *asked, **sent: asyncio.run(answered(*asked, **sent))

    return at


def join(browser, code):
    return browser("POST", "/join", json={"code": code, "name": "ada", "password": "p" * 16})


def board(browser, password):
    return browser("GET", "/board", auth=("teacher", password))


@pytest.mark.parametrize(("ask", "wrong"), [(join, 403), (board, 401)])
def test_a_room_may_mistype_once_each_and_one_who_guesses_on_learns_nothing(visitor, clock, ask, wrong):
    room, elsewhere = visitor("10.0.0.1"), visitor("10.0.0.2")
    assert {ask(room, f"guess {number}") for number in range(60)} == {wrong}
    assert (ask(room, "guess"), ask(room, "right")) == (429, 429), "nor whether a guess was right"
    assert ask(elsewhere, "right") == 503, "another address is not held up"
    clock.now += 10
    assert (ask(room, "guess"), ask(room, "guess")) == (wrong, 429), "one more every ten seconds"
    clock.now += 10
    assert ask(room, "right") == 503


def test_whoever_knows_the_code_is_never_counted(visitor):
    room = visitor("10.0.0.1")
    assert {join(room, "right") for _ in range(front.GUESSES + 5)} == {503}


def test_code_and_password_have_one_count_so_that_neither_gives_more_guesses_at_the_other(visitor):
    room = visitor("10.0.0.1")
    assert {join(room, "guess") for _ in range(60)} == {403}
    assert board(room, "guess") == 429


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_nobody_but_its_owner_gets_into_the_folder_of_a_room(tmp_path):
    room = Room.make(tmp_path / "room", store="sqlite")
    assert stat.S_IMODE(room.folder.stat().st_mode) == 0o700
    room.folder.chmod(0o755)  # as rooms of before have it
    room.save()
    assert stat.S_IMODE(room.folder.stat().st_mode) == 0o700
