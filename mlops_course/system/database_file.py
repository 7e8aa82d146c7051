"""Whether a database file can be read at all, so that a broken one is one sentence and not the traceback of a library.

    defect_of    what is wrong with a file of SQLite, in words

>>> defect_of(Path("not there.db"))
''
"""

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["defect_of"]


def defect_of(file: Path, *, thorough: bool = True) -> str:
    """Return what is wrong with a database file, or an empty text. Nothing is written; a missing file has no defect.

    `thorough` reads all pages, which takes about a second for each gigabyte; otherwise the tables are listed only. A
    file that somebody else has locked is taken for whole.
    """
    if not file.exists():
        return ""
    question = "PRAGMA quick_check(1)" if thorough else "SELECT count(*) FROM sqlite_master"
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (answer,) = connection.execute(question).fetchone()
    except sqlite3.DatabaseError as error:
        busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        return "" if busy else str(error)
    return "" if not thorough or answer == "ok" else answer.splitlines()[-1]
