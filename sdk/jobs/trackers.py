"""Trackers of experiments that transformers knows (tensorboard, wandb, ...); without a name nothing is reported."""

from collections.abc import Sequence
from pathlib import Path

from transformers import Trainer
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from edgefold.errors import InputError


def check_trackers(names: Sequence[str]) -> None:
    """Refuse, before any work is done, a tracker that is unknown or not installed.

    Raises:
        InputError: naming it, and what is known or to be installed.
    """
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise InputError(f"training.report_to: {name!r} is no known tracker; choose among {known}.")
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (ImportError, RuntimeError) as error:
            package = name.replace("_", "-")
            raise InputError(
                f"training.report_to: {name} is not installed; `pip install {package}`, or leave it out."
            ) from error


def keep_logs(trainer: Trainer, folder: Path) -> None:
    """Let trackers that write files (TensorBoard) write them here, unless their own settings name a place."""
    for callback in trainer.callback_handler.callbacks:
        if hasattr(callback, "logging_dir"):
            callback.logging_dir = callback.logging_dir or str(folder)
