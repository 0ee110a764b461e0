"""One JSON object a line in either direction; a message may be followed by the bytes that it announces."""

from __future__ import annotations

import json
import threading
from typing import IO, Any

PROTOCOL = 3
"""Counted up whenever a message changes its meaning; host and agent must agree."""
BEAT_S = 2.0
"""How often the agent shows that it lives."""


class Channel:
    """Two byte streams to the other side; `say` may be called from several threads."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._lock = threading.Lock()

    def say(self, message: dict[str, Any], payload: bytes = b"") -> None:
        """Send a message, and the bytes that belong to it."""
        line = json.dumps({**message, "payload": len(payload)} if payload else message) + "\n"
        with self._lock:
            self._outgoing.write(line.encode() + payload)
            self._outgoing.flush()

    def hear(self) -> tuple[dict[str, Any], bytes] | None:
        """The next message and its bytes; None when the other side is gone, be it in the middle of one."""
        line = self._incoming.readline()
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        size = message.pop("payload", 0)
        payload = self._incoming.read(size)
        return (message, payload) if len(payload) == size else None
