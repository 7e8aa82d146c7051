"""Forget a learner: account, experiments, runs, files and models, so that nothing is left in the room.

MLflow only marks what is deleted; `mlflow gc` takes it away for good. Afterwards both databases are searched for the
name.
"""

import os
import shutil
import subprocess
import sys
import time
from typing import Any

import httpx

from mlops_course.course.classroom import postgres
from mlops_course.course.classroom.front import Accounts
from mlops_course.course.classroom.machine import RoomError
from mlops_course.course.classroom.room import DATABASES, PASSWORD_SECONDS, TEACHER, Room
from mlops_course.course.progress.client import EXPERIMENT

__all__ = ["forget", "traces"]


def forget(room: Room, name: str) -> dict[str, int]:
    """Remove all that an open room has of a learner; returns how much. May be repeated until nothing is left.

    Takes half a minute longer than the work: so long MLflow trusts a password that it has checked. What the learner
    shared with others under names that are not the learner's stays. Raises RoomError if the room is closed or has
    nothing of that name, and if something is left.
    """
    if not room.running():
        raise RoomError("expected an open room, this one is closed; open it first: mlops-course classroom up")
    accounts = Accounts(room)
    try:
        known = name in accounts.names()
        held = _own(accounts, name) if known else {}
    except httpx.HTTPError as error:
        raise RoomError(f"MLflow does not answer ({error}); look at {room.folder / 'mlflow.log'}") from error
    client = room.client()
    titles = [name, f"{EXPERIMENT}{name}"]
    experiments = held.get("experiment", set()) | {one.experiment_id for one in _by_title(client, titles)}
    models = held.get("registered_model", set()) | _models(client, name)
    if not (known or experiments):
        raise RoomError(f"expected somebody who has joined, nobody is called {name!r}")
    if known:
        _lock_out(accounts, name)
        experiments |= {one.experiment_id for one in _by_title(client, titles)}  # of the learner's last half minute
    runs = 0
    for experiment in sorted(experiments):
        found = client.get_experiment(experiment)
        runs += len(client.search_runs([experiment], run_view_type=3, max_results=50_000))
        if found.lifecycle_stage == "active":
            client.delete_experiment(experiment)
    for model in sorted(models):
        client.delete_registered_model(model)
    if experiments:
        _collect(room, sorted(experiments))
    for experiment in experiments:
        shutil.rmtree(room.artifacts / experiment, ignore_errors=True)
    if known:
        accounts.close(name)
    if left := traces(room, name):
        raise RoomError(f"something of {name} is left in {', '.join(left)}; run it again")
    return {"experiments": len(experiments), "runs": runs, "models": len(models), "accounts": int(known)}


def traces(room: Room, name: str) -> list[str]:
    """Columns of both databases in which a text is the name, or begins with it as a learner's names do."""
    import sqlalchemy

    found = []
    for database in DATABASES:
        engine = sqlalchemy.create_engine(room.database(database), poolclass=sqlalchemy.NullPool)
        tables = sqlalchemy.MetaData()
        tables.reflect(engine)
        with engine.connect() as connection:
            for table in tables.sorted_tables:
                for column in table.columns:
                    if isinstance(column.type, sqlalchemy.String):
                        like = sqlalchemy.or_(
                            column.in_([name, f"{EXPERIMENT}{name}"]), column.startswith(f"{name}.", autoescape=True)
                        )
                        query = sqlalchemy.select(sqlalchemy.func.count()).select_from(table).where(like)
                        if connection.execute(query).scalar_one():
                            found.append(f"{table.name}.{column.name}")
        engine.dispose()
    return found


def _own(accounts: Accounts, name: str) -> dict[str, set[str]]:
    """What nobody but the learner may manage. What is shared stays for the others, whoever began it."""
    mine = _held(accounts, name)
    for other in accounts.names():
        if other != name:
            for kind, shared in _held(accounts, other).items():
                mine[kind] = mine.get(kind, set()) - shared
    return mine


def _held(accounts: Accounts, name: str) -> dict[str, set[str]]:
    """What the learner may manage, by kind: MLflow gives that to whoever creates something."""
    answer = accounts.call("3.0/mlflow/users/permissions/list", method="GET", username=name).raise_for_status()
    held: dict[str, set[str]] = {}
    for one in answer.json()["permissions"]:
        if one["permission"] == "MANAGE":
            held.setdefault(one["resource_type"], set()).add(one["resource_pattern"])
    return held


def _models(client: Any, name: str) -> set[str]:
    """Registered models whose names begin as the learner's do."""
    found = client.search_registered_models(f"name LIKE '{name}.%'", max_results=1_000)
    return {one.name for one in found if one.name.startswith(f"{name}.")}


def _lock_out(accounts: Accounts, name: str) -> None:
    """Refuse every call of the learner's machine, so that nothing is made again while it is removed."""
    changed = {"username": name, "password": postgres.new_password()}
    accounts.call("2.0/mlflow/users/update-password", method="PATCH", **changed).raise_for_status()
    time.sleep(PASSWORD_SECONDS)  # workers trust the old one so long


def _by_title(client: Any, titles: list[str]) -> list[Any]:
    return [one for title in titles if (one := client.get_experiment_by_name(title))]


def _collect(room: Room, experiments: list[str]) -> None:
    """What MLflow has marked as deleted goes for good."""
    store, secret = postgres.without_password(room.database("mlflow"))
    stores = ["--backend-store-uri", store, "--artifacts-destination", room.artifacts.as_uri()]
    login = {**secret, "MLFLOW_TRACKING_URI": room.address, "MLFLOW_TRACKING_USERNAME": TEACHER}
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "gc", *stores, "--experiment-ids", ",".join(experiments)],
        capture_output=True,
        text=True,
        env={**os.environ, **login, "MLFLOW_TRACKING_PASSWORD": room.password},
    )
    if done.returncode != 0:
        raise RoomError(f"MLflow could not remove what was deleted: {done.stderr[-800:]}")
