"""Whether this computer has what a project needs, one line each, with what to do where it has not.

    checks    Python, packages, time zones, SQLite, disk, the folder for state, the databases in it

>>> [check["what"] for check in checks("packaging", folder=Path("state"))]
['Python', 'packages', 'time zones', 'SQLite', 'disk', 'folder']
"""

import os
import platform
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from zoneinfo import available_timezones

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mlops_course.system.database_file import defect_of

__all__ = ["checks"]

ZONES = ("America/New_York", "Pacific/Honolulu")  # two that a full time zone database has
SQLITE = (3, 31)  # 2020; MLflow's database migrations alter tables in ways that older releases cannot
FREE_GB = 1.0  # what a course of runs and models takes, with room to spare


def checks(distribution: str, *, folder: Path, stores: Iterable[Path] = ()) -> list[dict[str, object]]:
    """What was looked at, in order: for each `what`, whether it is `ok`, what was `found`, and what `to_do` if not.

    `distribution` is the installed package whose requirements must be met, `folder` where state will be written,
    `stores` the database files that are read from end to end if they are there.
    Nothing is written. Raises PackageNotFoundError if the distribution is not installed.
    """
    found: list[dict[str, object]] = []

    def look(what: str, ok: bool, came: str, to_do: str) -> None:
        found.append({"what": what, "ok": ok, "found": came, "to_do": "" if ok else to_do})

    wanted, python = metadata.metadata(distribution).get("Requires-Python") or "", platform.python_version()
    fits = SpecifierSet(wanted).contains(python, prereleases=True)
    look("Python", fits, python, f"install a Python {wanted} and make the environment again")
    unmet = ", ".join(_unmet(distribution))
    look("packages", not unmet, unmet or "all that are required", "delete .venv and install again, as the README says")
    zones = sorted({*ZONES} & available_timezones())
    look("time zones", len(zones) == len(ZONES), ", ".join(zones) or "none", "install the package tzdata")
    newer = f"use a Python that is built with SQLite {'.'.join(map(str, SQLITE))} or later"
    look("SQLite", sqlite3.sqlite_version_info >= SQLITE, sqlite3.sqlite_version, newer)
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free / 1e9
    more = f"free {FREE_GB:.0f} GB, or set MLOPS_HOME to another disk"
    look("disk", free >= FREE_GB, f"{free:.1f} GB free", more)
    look("folder", os.access(there, os.W_OK), str(folder), "set MLOPS_HOME to a folder that you may write to")
    for store in stores:
        why = defect_of(store)
        state = why or ("can be read" if store.exists() else "none yet")
        look(store.name, not why, state, f"put a backup of {store} in its place, or move it away")
    return found


def _unmet(distribution: str) -> Iterator[str]:
    for text in metadata.requires(distribution) or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} is missing"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} {version} is not {requirement.specifier}"
