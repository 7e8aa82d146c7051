"""Whether this computer has what the course needs, one line each, with what to do if not.

    checks    Python, packages, time zones, database, disk, workspace

>>> found = checks("mlops-course", folder=Path("."))
>>> [check["what"] for check in found]
['Python', 'packages', 'time zones', 'SQLite', 'disk', 'workspace']
"""

import importlib
import os
import shutil
import sqlite3
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from packaging.requirements import Requirement

__all__ = ["checks"]
