"""Why there is no answer."""


class FullError(RuntimeError):
    """So much is waiting that more would only wait longer."""


class _NoAnswerError(RuntimeError):
    """A model failed on rows that fit its contract."""


class _NotKeptError(RuntimeError):
    """The log did not take it."""
