"""Loggers of libraries that say too much, held back for a while.

>>> with quiet("mlflow.store", below=logging.WARNING):
...     logging.getLogger("mlflow.store").isEnabledFor(logging.INFO)
False
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet(*names: str, below: int = logging.CRITICAL) -> Iterator[None]:
    """Hold back what the named loggers say below a level; afterwards they have the levels that they had."""
    before = {logger: logger.level for logger in map(logging.getLogger, names)}
    for logger in before:
        logger.setLevel(below)
    try:
        yield
    finally:
        for logger, level in before.items():
            logger.setLevel(level)
