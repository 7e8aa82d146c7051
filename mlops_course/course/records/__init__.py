"""Records of real delivery that a lesson reads: the workflow files of this repository, and the releases of Python 3.13.

    workflows          the files of .github/workflows as text, by name; a test holds these copies to the originals
    python_releases    when each release of Python 3.13 came out, and which broken one it mends
    python_changes     when the security changes and the mending changes of 2025 were written, and their release

Releases are those of PEP 719 (in the public domain), as it was on 10 June 2026. A release `mends` another if its
announcement says that it was hurried to mend it, or if it holds nothing but the mend (3.13.9). Changes are the entries
of the section Security, and those that the announcements of hurried releases name, in the folder Misc/NEWS.d of
python/cpython; `written` is the day in the entry's own date. Looked at on 30 November 2026.

>>> releases = python_releases()
>>> len(releases), releases["mends"].count()
(15, 4)
"""

from importlib import resources

import pandas as pd

__all__ = ["python_changes", "python_releases", "workflows"]

HERE = resources.files(__package__)


def workflows() -> dict[str, str]:
    """Return the workflow files of this repository, as text by file name."""
    return {name: HERE.joinpath(name).read_text(encoding="utf-8") for name in ("ci.yml", "weekly.yml")}


def python_releases() -> pd.DataFrame:
    """Return one row a release, oldest first: version, released, and the version that it mends, if any."""
    return _table("python_releases.csv", day="released")


def python_changes() -> pd.DataFrame:
    """Return one row a change: version, issue, kind ("security" or "mend"), and the day on which it was written."""
    return _table("python_changes.csv", day="written")


def _table(name: str, *, day: str) -> pd.DataFrame:
    with HERE.joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"version": str, "mends": str}, parse_dates=[day])
