"""Addresses of devices: ssh://user@host[:port][/path/of/python], taken apart strictly."""

import re
from dataclasses import dataclass

from edgefold.errors import InputError

SCHEME = "ssh://"
_NAME = "[A-Za-z0-9_][A-Za-z0-9._-]*"  # never begins with a dash, so ssh cannot take it for an option
_ADDRESS = re.compile(
    rf"ssh://(?:(?P<user>{_NAME})@)?(?:(?P<host>{_NAME})|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<python>/[A-Za-z0-9._+/-]+)?"
)


@dataclass(frozen=True)
class Address:
    """Where a device is, and which Python to use there."""

    user: str | None
    host: str
    port: int | None
    python: str = "python3"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{SCHEME}{user}{host}{f':{self.port}' if self.port else ''}"


def is_remote(device: str) -> bool:
    """Whether this names a device to be reached over SSH."""
    return device.startswith(SCHEME)


def parse_address(text: str) -> Address:
    """Take an address apart.

    Raises:
        InputError: it is not of the form ssh://user@host[:port][/path/of/python].
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise InputError(
            f"The device {text!r} is no address of the form ssh://user@host[:port][/path/of/python]; names are of "
            "letters, digits, dots, dashes and underscores, and a password has no place in it (keys and ssh-agent are "
            "used)."
        )
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65535:
        raise InputError(f"The device {text!r} has the port {port}; ports are from 1 to 65535.")
    return Address(match["user"], match["host"] or match["ipv6"], port, match["python"] or "python3")
