"""What the service says of itself: a line an event."""

import logging
from typing import Any

_logger = logging.getLogger(__package__)


def _log_event(level: int, event: str, **facts: Any) -> None:
    """One line for the log of the process, for a machine to read; never an input, an id or an address."""
    _logger.log(level, event, extra={"facts": facts})
