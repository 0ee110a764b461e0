"""What ssh says when it fails, and what to do about it."""

import re

from edgefold.runtimes.remote.addresses import Address

CAUSES = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        "its host key is not the one known for it: another machine answers at that address, or the device was set up "
        "anew. If you know that it was, remove the old key with ssh-keygen -R and connect once by hand",
    ),
    (
        r"Host key verification failed|host key is known",
        "its host key is not known yet: connect once by hand with ssh, compare the fingerprint, and accept it",
    ),
    (
        r"Permission denied|Too many authentication failures|no more authentication methods",
        "it refuses the key: put your public key there with ssh-copy-id, or load the right one with ssh-add (passwords "
        "are never asked for)",
    ),
    (r"Could not resolve hostname", "there is no such host name: check the address, or give the IP address"),
    (r"Connection refused", "nothing listens at that port: start sshd on the device, or give the port it uses"),
    (
        r"timed out|No route to host|Network is unreachable|Host is down",
        "it does not answer: check that it is switched on and on this network",
    ),
    (
        r"Bad owner or permissions|Bad configuration option|Can't open user config",
        "ssh does not accept its own settings",
    ),
)
"""What ssh prints -> what it means and what to do; the first that matches is told."""
NO_SUCH_PROGRAM, NOT_EXECUTABLE = 127, 126


def explain_start(address: Address, status: int | None, said: str) -> str:
    """Why no agent answered.

    Args:
        status: ssh's exit status; None where it still runs.
        said: everything it printed on stderr, and what came on stdout instead of the agent's greeting.
    """
    if status in (NO_SUCH_PROGRAM, NOT_EXECUTABLE):
        return (
            f"{address} has no Python at {address.python} ({_last_line(said)}); install Python 3.8 or newer there, or "
            "name one in the address, as in ssh://user@host/usr/bin/python3.9."
        )
    for pattern, advice in CAUSES:
        if re.search(pattern, said):
            return f"{address} cannot be reached: {advice}. ssh said: {_last_line(said)}"
    if "edgefold-agent: " in said:
        return f"{address} cannot run the agent: {said.rpartition('edgefold-agent: ')[2].strip()}."
    if status is None:
        return (
            f"{address} let us in, but no agent answered; log in by hand and see what holds it up. {_last_line(said)}"
        )
    return f"{address} cannot be used: ssh ended with status {status}. It said: {_last_line(said)}"


def explain_break(address: Address, doing: str, status: int | None, said: str) -> str:
    """Why a conversation that had begun broke off."""
    if status is None:
        what = "went silent"
    elif status < 0:
        what = f"lost its connection (ssh here was ended by signal {-status})"
    elif status == 0 or not said.strip():
        what = "ended: the agent was killed there, perhaps because the memory ran out"
    else:
        what = f"lost its connection ({_last_line(said)})"
    return (
        f"{address} {what} while {doing}. Nothing of ours goes on running there, and what has arrived is kept; run the "
        "same command again."
    )


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip(" @\r")]
    return lines[-1] if lines else "nothing"
