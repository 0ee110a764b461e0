"""The errors edgefold raises, each with the exit status that the command line gives it."""


class EdgefoldError(Exception):
    """A job that failed: exit status 1."""

    exit_code = 1


class InputError(EdgefoldError, ValueError):
    """Something the caller can mend (a path, a value, a corrupt file): exit status 2."""

    exit_code = 2


class GateError(EdgefoldError):
    """A step cost more quality, or missed a budget by more, than was allowed: exit status 3."""

    exit_code = 3


class DeviceError(EdgefoldError):
    """The device or runtime that was asked for cannot be reached or used: exit status 4."""

    exit_code = 4
