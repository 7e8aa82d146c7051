"""Whether this computer has what a project needs, one line each, with what to do where it has not.

    checks    Python, packages, time zones, SQLite, disk, the folder for state

>>> [check["what"] for check in checks("packaging", folder=Path("state"))]
['Python', 'packages', 'time zones', 'SQLite', 'disk', 'folder']
"""

import os
import platform
import shutil
import sqlite3
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

__all__ = ["checks"]

ZONES = ("America/New_York", "Pacific/Honolulu")  # two that a full time zone database has
SQLITE = (3, 31)  # 2020; MLflow's database migrations alter tables in ways that older releases cannot
FREE_GB = 1.0  # what a course of runs and models takes, with room to spare


def checks(distribution: str, *, folder: Path) -> list[dict[str, object]]:
    """What was looked at, in order: for each `what`, whether it is `ok`, what was `found`, and what `to_do` if not.

    `distribution` is the installed package whose requirements must be met, `folder` where state will be written.
    Nothing is written. Raises PackageNotFoundError if the distribution is not installed.
    """
    lines = [_python(distribution), _packages(distribution), _time_zones(), _sqlite(), _disk(folder), _folder(folder)]
    return [{"what": what, "ok": ok, "found": found, "to_do": "" if ok else to_do} for what, ok, found, to_do in lines]


def _python(distribution: str) -> tuple[str, bool, str, str]:
    wanted = metadata.metadata(distribution).get("Requires-Python") or ""
    ok = SpecifierSet(wanted).contains(platform.python_version(), prereleases=True)
    return "Python", ok, platform.python_version(), f"install a Python {wanted} and make the environment again"


def _packages(distribution: str) -> tuple[str, bool, str, str]:
    faults = list(_unmet(distribution))
    found = ", ".join(faults) or "all that are required"
    return "packages", not faults, found, "delete .venv and install again, as the README says"


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


def _time_zones() -> tuple[str, bool, str, str]:
    try:
        found = [ZoneInfo(name).key for name in ZONES]
    except ZoneInfoNotFoundError as error:
        return "time zones", False, str(error), "install the package tzdata"
    return "time zones", True, ", ".join(found), ""


def _sqlite() -> tuple[str, bool, str, str]:
    to_do = f"use a Python that is built with SQLite {'.'.join(map(str, SQLITE))} or later"
    return "SQLite", sqlite3.sqlite_version_info >= SQLITE, sqlite3.sqlite_version, to_do


def _disk(folder: Path) -> tuple[str, bool, str, str]:
    free = shutil.disk_usage(_existing(folder)).free / 1e9
    return "disk", free >= FREE_GB, f"{free:.1f} GB free", f"free {FREE_GB:.0f} GB, or set MLOPS_HOME to another disk"


def _folder(folder: Path) -> tuple[str, bool, str, str]:
    ok = os.access(_existing(folder), os.W_OK)
    return "folder", ok, str(folder), "set MLOPS_HOME to a folder that you may write to"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.is_dir())
