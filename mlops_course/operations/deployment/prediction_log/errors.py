"""Why nothing was kept."""

from collections.abc import Sequence


class LogUnavailableError(RuntimeError):
    """The database cannot be written or read at present; nothing of the call was kept. Try again later."""


class PredictionConflictError(ValueError):
    """An id was used before for other inputs; `ids` names all such ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(
            f"expected a new id, or the same inputs as before; other inputs came for {', '.join(ids)}: give each "
            "prediction an id of its own"
        )
        self.ids = tuple(ids)


class LabelConflictError(ValueError):
    """A label contradicts the one on record; `ids` names all such ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(
            f"expected the label that is on record, or none there; another one came for {', '.join(ids)}: find out "
            "which is right; a label on record is not changed"
        )
        self.ids = tuple(ids)
