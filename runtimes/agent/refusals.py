"""What a device refuses, in words that travel: the host turns each kind into its own error."""

from __future__ import annotations


class Refused(Exception):
    """Something that cannot be done here.

    Args:
        kind: "input" for what the caller can mend, "device" for the device or a runtime, "failed" for all else.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
