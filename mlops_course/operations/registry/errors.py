"""Why the registry refuses."""


class RegistryError(Exception):
    """The registry refuses."""


class ContractError(RegistryError):
    """The contract cannot be written down, or the model does not keep it."""


class HistoryError(RegistryError):
    """A release is missing from the history, so nobody can say which version is champion."""


class OvertakenError(RegistryError):
    """Another release came first; this one is on record without effect."""


class PromotionError(RegistryError):
    """The version must not become champion as things stand."""


class TamperedError(RegistryError):
    """The files of a version are not the ones that were registered."""


class UnknownVersionError(RegistryError):
    """There is no such version, or it was registered without a contract."""


class UntrustedTypesError(RegistryError):
    """The model holds types that nobody has reviewed."""
