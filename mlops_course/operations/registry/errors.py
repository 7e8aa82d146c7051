"""The errors of the registry."""


class RegistryError(Exception):
    """The registry refused a request."""


class ContractError(RegistryError):
    """The contract cannot be stored, or the model does not keep it."""


class HistoryError(RegistryError):
    """A release is missing from the history, so the champion is unknown."""


class OvertakenError(RegistryError):
    """Another release came first; this one is on record without effect."""


class PromotionError(RegistryError):
    """The version must not be released as things are."""


class TamperedError(RegistryError):
    """The files of a version are not the ones that were registered."""


class UnknownVersionError(RegistryError):
    """There is no such version, or it was registered without a contract."""


class UntrustedTypesError(RegistryError):
    """The model holds types that nobody has reviewed."""
