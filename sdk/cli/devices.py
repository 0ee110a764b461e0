"""Devices given on the command line, checked before anything heavy is imported."""

from edgefold.errors import InputError

LOCAL = ("cpu", "cuda")
SCHEME = "ssh://"


def check_device(device: str) -> str:
    """A device of this machine, or the address of another.

    Raises:
        InputError: neither.
    """
    if device in LOCAL:
        return device
    if not device.startswith(SCHEME):
        raise InputError(f"There is no device {device!r}; give {', '.join(LOCAL)} or ssh://user@host[:port].")
    return check_address(device)


def check_address(device: str) -> str:
    """The address of another machine.

    Raises:
        InputError: it is malformed.
    """
    from edgefold.runtimes.remote.addresses import parse_address

    parse_address(device)
    return device
