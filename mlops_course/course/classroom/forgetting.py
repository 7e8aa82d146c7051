"""Forget a learner: account, experiments, runs, files and models, so that nothing is left in the room.

MLflow only marks what is deleted; `mlflow gc` takes it away for good. Afterwards both databases are searched for the
name.
"""

import shutil
import time
from collections.abc import Callable
from typing import Any

import httpx
import sqlalchemy

from mlops_course.course.classroom import postgres
from mlops_course.course.classroom.backup import connected
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
    accounts, client = Accounts(room), room.client()
    try:
        known = name in accounts.names()
        held = _own(accounts, name) if known else {}
    except httpx.HTTPError as error:
        raise RoomError(f"MLflow does not answer ({error}); look at {room.folder / 'mlflow.log'}") from error

    def by_title() -> set[str]:
        found = map(client.get_experiment_by_name, (name, f"{EXPERIMENT}{name}"))
        return {one.experiment_id for one in found if one}

    experiments = held.get("experiment", set()) | by_title()
    named = client.search_registered_models(f"name LIKE '{name}.%'", max_results=1_000)
    models = held.get("registered_model", set()) | {one.name for one in named if one.name.startswith(f"{name}.")}
    if not (known or experiments or models):
        raise RoomError(f"expected somebody who has joined, nobody is called {name!r}")
    if known:
        accounts.lock(name, postgres.new_password())  # so that nothing is made again while it is removed
        time.sleep(PASSWORD_SECONDS)  # workers trust the old password so long
        experiments |= by_title()  # of the learner's last half minute
    runs = 0
    for experiment in sorted(experiments):
        if (found := _found(client.get_experiment, experiment)) is None:
            continue  # a call that was killed had removed it
        runs += len(client.search_runs([experiment], run_view_type=3, max_results=50_000))
        if found.lifecycle_stage == "active":
            client.delete_experiment(experiment)
    for model in sorted(models):
        if _found(client.get_registered_model, model):
            client.delete_registered_model(model)
    if experiments:
        _collect(room, sorted(experiments))
    if known:
        accounts.close(name)
    if left := traces(room, name):
        raise RoomError(f"something of {name} is left in {', '.join(left)}; run it again")
    return {"experiments": len(experiments), "runs": runs, "models": len(models), "accounts": int(known)}


def traces(room: Room, name: str) -> list[str]:
    """Columns of both databases in which a text is the name, or begins with it as a learner's names do."""
    found = []
    for database in DATABASES:
        schema = sqlalchemy.MetaData()
        with connected(room.database(database)) as connection:
            schema.reflect(connection)
            for column in [column for table in schema.sorted_tables for column in table.columns]:
                if isinstance(column.type, sqlalchemy.String):
                    named = column.in_([name, f"{EXPERIMENT}{name}"]) | column.startswith(f"{name}.", autoescape=True)
                    if connection.execute(sqlalchemy.select(column).where(named).limit(1)).first():
                        found.append(str(column))
    return found


def _found(get: Callable[[str], Any], name: str) -> Any:
    """What MLflow has under a name, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return get(name)
    except MlflowException as missing:
        if missing.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return None


def _own(accounts: Accounts, name: str) -> dict[str, set[str]]:
    """What nobody but the learner may manage. What is shared stays for the others, whoever began it."""
    mine = accounts.holds(name)
    for other in accounts.names():
        if other != name:
            for kind, shared in accounts.holds(other).items():
                mine[kind] = mine.get(kind, set()) - shared
    return mine


def _collect(room: Room, experiments: list[str]) -> None:
    """Take what MLflow has marked as deleted away for good, with its files."""
    login = {"MLFLOW_TRACKING_USERNAME": TEACHER, "MLFLOW_TRACKING_PASSWORD": room.password}
    asked = ["--experiment-ids", ",".join(experiments)]
    room.call("mlflow", "gc", *room.stores, *asked, MLFLOW_TRACKING_URI=room.address, **login)
    for experiment in experiments:
        shutil.rmtree(room.artifacts / experiment, ignore_errors=True)
