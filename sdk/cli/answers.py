"""What every command has in common: its --json and --debug options, where it prints, and its exit status."""

import functools
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer

from edgefold.cli.failures import Failure, describe_failure
from edgefold.cli.hub import stay_offline

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object; logs and progress go to stderr.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show log messages, and the traceback of an error.")]


@dataclass(frozen=True)
class Answer:
    """What a command found out: for machines, for people, and whether it is good news."""

    document: dict[str, Any]
    """JSON-able."""
    texts: tuple[Any, ...]
    """What rich can print: tables, strings."""
    exit_code: int = 0
    """3 where a quality or budget gate was missed."""


def answering(function: Callable[..., Answer]) -> Callable[..., None]:
    """The command of a function that returns an Answer: it prints the answer, or the error as one paragraph."""

    @functools.wraps(function)
    def command(*args: Any, as_json: bool, debug: bool, **kwargs: Any) -> None:
        _prepare(debug)
        try:
            with redirect_stdout(sys.stderr):  # libraries print; stdout is for the answer alone
                answer = function(*args, **kwargs)
            _print_answer(answer, as_json)
        except BrokenPipeError:  # the reader (head, less) has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (Exception, KeyboardInterrupt) as error:
            if debug and not isinstance(error, KeyboardInterrupt):
                logging.getLogger(__name__).exception("the command failed")
            _leave(describe_failure(error), as_json)
        raise typer.Exit(answer.exit_code)

    _add_options(command, function)
    return command


def _add_options(command: Callable[..., None], function: Callable[..., Answer]) -> None:
    """Show typer the function's own parameters, then --json and --debug."""
    options = {"as_json": JsonOption, "debug": DebugOption}
    own = inspect.signature(function)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in options.items()
    ]
    command.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    command.__annotations__ = {**function.__annotations__, **options, "return": None}


def _prepare(debug: bool) -> None:
    """Log to stderr, and stay off the network: a job must not depend on what a hub answers today."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if debug else logging.WARNING, format="%(name)s: %(message)s"
    )
    stay_offline()


def _print_answer(answer: Answer, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer.document, indent=2, allow_nan=False))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    for text in answer.texts:
        console.print(text)


def _leave(failure: Failure, as_json: bool) -> NoReturn:
    print(f"edgefold: {failure.message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"kind": failure.kind, "message": failure.message, "exit_code": failure.exit_code}}))
    raise typer.Exit(failure.exit_code)
