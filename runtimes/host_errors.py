"""A device's refusals as the errors that users of edgefold see."""

from edgefold.errors import DeviceError, EdgefoldError, InputError

ERRORS: dict[str, type[EdgefoldError]] = {"input": InputError, "device": DeviceError, "failed": EdgefoldError}
"""Kind of a refusal -> its error, and with it the exit status."""


def error_of(kind: str, message: str) -> EdgefoldError:
    """The error to raise for a refusal; a kind that is not known is a plain failure."""
    return ERRORS.get(kind, EdgefoldError)(message)
