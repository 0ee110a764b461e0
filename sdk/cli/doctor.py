"""`edgefold doctor`: what is installed, which runtimes and devices work, and what to do about those that do not."""

from typing import Annotated

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.devices import check_address
from edgefold.errors import InputError


def examine_machine(
    device: Annotated[
        list[str] | None, typer.Option(help="A device to look at as well, ssh://user@host[:port]; may be repeated.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the models that earlier runs left there.")] = False,
) -> Answer:
    """List Python, packages, runtimes and this processor, and say what to do about what is missing; devices too."""
    devices = [check_address(address) for address in device or ()]
    if clear and not devices:
        raise InputError("--clear empties the stores of devices; name them with --device ssh://user@host.")
    from edgefold.cli.examination import examine

    return examine(devices, clear)
