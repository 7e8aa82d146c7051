"""The classroom: open it, join it, look at it, back it up and close it."""

import getpass
import hmac
import json
import os
import re
import signal
import socket
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from mlops_course.commands.shared import Commands, on_record
from mlops_course.system.workspace import Workspace

__all__ = ["classroom"]

CLOSING_SECONDS = 60
OPENING_SECONDS = 180

in_folder = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the room; the folder classroom of the workspace if not given.",
)
new_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.group(cls=Commands)
def classroom() -> None:
    """A tracking server and a board for a room of up to sixty learners, on the teacher's machine."""


def _room(folder: Path | None, **settings: Any) -> Any:
    from mlops_course.course.classroom.room import SETTINGS, Room

    folder = folder or Workspace.locate().root / "classroom"
    if not settings and not (folder / SETTINGS).exists():
        raise click.ClickException(f"expected a room in {folder}, found none; open one: mlops-course classroom up")
    return Room.make(folder, **settings)


@classroom.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is every network.")
@click.option("--port", type=int, help="Port of MLflow, 5000 for a new room; learners join at the next port.")
@click.option("--store", default="", metavar="STORE", help="postgresql, sqlite (up to five), or a PostgreSQL URL.")
@click.option("--allow-host", multiple=True, help="Another name that learners know this machine by; may be repeated.")
@click.option("--detach", is_flag=True, help="Return when the room is open; `down` closes it.")
@in_folder
def up(host: str, port: int | None, store: str, allow_host: tuple[str, ...], detach: bool, folder: Path | None) -> None:
    """Open the room: MLflow with passwords on PostgreSQL, where learners join, and the board. Ctrl-C closes it.

    Exit code 4: a port is taken.
    """
    import uvicorn

    from mlops_course.course.classroom import front
    from mlops_course.course.classroom.machine import expect_free
    from mlops_course.course.classroom.room import SETTINGS

    room = _room(folder, store=store, port=port, host=host, names=allow_host)
    port = room.port
    if room.store == "sqlite":
        click.echo(
            f"The store is SQLite, which lets one write at a time: {room.capacity} may join. For more, install "
            "PostgreSQL and what speaks to it (pip install 'mlops-course[classroom]'), and open a new room."
        )
    expect_free(host, port + 1, "the page where learners join")
    if detach:
        _open_apart(room)
        return
    for name in ("SIGTERM", "SIGHUP"):  # `down` and a window that is closed do what Ctrl-C does
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    click.echo("Opening the room; the first time takes half a minute.")
    with room.open(say=click.echo):
        here = _address(host)
        click.echo(f"\nLearners paste:  mlops-course classroom join http://{here}:{port + 1}/#{room.code}\n")
        click.echo(f"Board:  http://{here}:{port + 1}/board  (user teacher, password in {room.folder / SETTINGS})")
        click.echo(f"MLflow: http://{here}:{port}  (the same). Ctrl-C closes the room.")
        config = uvicorn.Config(front.application(room), host=host, port=port + 1, log_level="warning")
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run()
    click.echo("The room is closed; everything in it is kept.")


def _open_apart(room: Any) -> None:
    """Open the room in a process of its own, and show its messages when learners can join."""
    from mlops_course.course.classroom.machine import Child

    if found := room.running():
        raise click.ClickException(f"expected a room that is closed, this one is open as process {found['pid']}")
    log = room.folder / "room.log"
    log.unlink(missing_ok=True)
    log.touch(mode=0o600)  # the log contains the code
    settings = ["--host", room.host, "--port", str(room.port), "--folder", str(room.folder)]
    settings += [part for name in room.names for part in ("--allow-host", name)]
    child = Child([sys.executable, "-m", "mlops_course", "classroom", "up", *settings], {}, log)
    child.start()
    page = room.address.replace(f":{room.port}", f":{room.port + 1}")
    if child.answers(page, seconds=OPENING_SECONDS):
        said = log.read_text(encoding="utf-8")
        click.echo(said.replace("Ctrl-C closes the room", "Close it: mlops-course classroom down"))
        return
    child.stop()
    raise click.ClickException(f"the room did not open within {OPENING_SECONDS} s; it said:\n{child.last_words()}")


def _address(host: str) -> str:
    """Return the address that other machines see, if the host stands for all networks."""
    if host not in ("0.0.0.0", "::"):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which of our addresses would be used
        return probe.getsockname()[0]
    return socket.gethostname()


@classroom.command()
@in_folder
def down(folder: Path | None) -> None:
    """Close the room; everything in it is kept."""
    room = _room(folder)
    if (found := room.running()) is None:
        room.clear()
        click.echo("The room is closed already.")
        return
    os.kill(found["pid"], signal.SIGTERM)
    until = time.monotonic() + CLOSING_SECONDS
    while room.running() and time.monotonic() < until:
        time.sleep(0.2)
    if room.running():
        raise click.ClickException(f"expected process {found['pid']} to end in {CLOSING_SECONDS} s; look at its log")
    room.clear()  # where a process can only be ended at once, as on Windows, the others are still there
    click.echo("The room is closed; everything in it is kept.")


@classroom.command()
@in_folder
def status(folder: Path | None) -> None:
    """Show whether the room is open, with which store, and who has joined."""
    import httpx

    from mlops_course.course.classroom import front

    room = _room(folder)
    if (found := room.running()) is None:
        click.echo("The room is closed. Open it: mlops-course classroom up")
        return
    try:
        names = front.Accounts(room).names()
    except httpx.HTTPError as error:
        raise click.ClickException(f"MLflow does not answer ({error}); look at {room.folder / 'mlflow.log'}") from error
    click.echo(f"Open at {found['address']} on {room.store.split(':')[0]}; {len(names)} of {room.capacity} joined.")
    click.echo("\n".join(names))


@classroom.command()
@click.argument("url")
@click.option("--name", help="Your name in the room; your user name if not given.")
def join(url: str, name: str | None) -> None:
    """Join a room: paste the line that the teacher shows."""
    from mlops_course.course.progress import client

    name = name or re.sub(r"[^a-z0-9-]+", "-", getpass.getuser().lower()).strip("-")[:31]
    here = client.join(url, name, root=Workspace.locate().root)
    click.echo(f"You are in, as {here.learner}. What your checks say goes to the teacher's board from now on.")
    click.echo("In a notebook, to log runs to the room:\n")
    click.echo("    from mlops_course.course.progress import client\n    client.connect()\n")
    click.echo(f"MLflow is at {here.server}; name and password are in {client.FILE} of your workspace.")


@classroom.command()
@new_file
@in_folder
def backup(file: Path, folder: Path | None) -> None:
    """Write the whole room to FILE, open or closed. It contains passwords: keep it secret."""
    from mlops_course.course.classroom import backup as backups

    held = backups.backup(_room(folder), file)
    click.echo(f"{file} holds {', '.join(f'{count} {name}' for name, count in held.items())}.")


@classroom.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="A new folder.")
def restore(file: Path, folder: Path) -> None:
    """Make a room from the backup FILE in a new folder, here or on another machine."""
    from mlops_course.course.classroom import backup as backups

    held = backups.restore(file, folder)
    click.echo(f"{folder} holds {', '.join(f'{count} {name}' for name, count in held.items())}.")
    click.echo(f"Open it: mlops-course classroom up --folder {folder}")


@classroom.command()
@new_file
@in_folder
def upgrade(file: Path, folder: Path | None) -> None:
    """Bring a closed room up to the MLflow that is installed now, after a backup to FILE."""
    from mlops_course.course.classroom import backup as backups

    backups.upgrade(_room(folder), file)
    click.echo(f"The store is up to date. As it was before, it is in {file}.")


@classroom.command()
@click.argument("name")
@on_record
@in_folder
def forget(name: str, approver: str, reason: str, folder: Path | None) -> None:
    """Delete a learner from the open room: account, runs, files, models, results.

    The request goes on record in forgotten.jsonl of the room, without the name.
    """
    from mlops_course.course.classroom import forgetting

    room = _room(folder)
    done = forgetting.forget(room, name)
    # a plain hash of a name is easily guessed
    digest = hmac.digest(room.secret.encode(), name.encode(), "sha256").hex()
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "who": digest}
    line |= {"approver": approver, "reason": reason}
    with (room.folder / "forgotten.jsonl").open("a", encoding="utf-8") as record:
        record.write(json.dumps(line | done) + "\n")
    click.echo(f"Removed {', '.join(f'{count} {what}' for what, count in done.items())}; no table holds the name now.")
    click.echo("Backups that were made before still do: delete them, or forget again after restoring one.")


@classroom.command()
@in_folder
def export(folder: Path | None) -> None:
    """Print the share of gaps that each learner has done, by lesson, as CSV."""
    from mlops_course.course.classroom import board
    from mlops_course.course.classroom.backup import store_runs

    room = _room(folder)
    with store_runs(room):
        table = board.standings(room.client())
    click.echo(board.as_csv(board.grades(table)), nl=False)
