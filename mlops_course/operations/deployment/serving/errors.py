"""Why a request gets no predictions."""


class QueueFullError(RuntimeError):
    """So much is waiting that more would only wait longer."""


class _ModelFailedError(RuntimeError):
    """A model failed on rows that fit its contract."""


class _NotKeptError(RuntimeError):
    """The log kept nothing of it."""
