"""Opening what lies in a teacher's folder; weights from safetensors alone, and no code that comes with them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from edgefold.errors import InputError


def open_tokenizer(folder: Path, **options: Any) -> Any:
    """The tokenizer beside a teacher.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # transformers and tokenizers each raise their own
        raise InputError(f"The tokenizer of {folder} cannot be opened: {' '.join(str(error).split())}") from error


def padding_tokenizer(tokenizer: Any) -> Any:
    """A tokenizer that can pad, as batches of rows of unlike lengths need.

    Raises:
        InputError: it has no padding token.
    """
    if tokenizer.pad_token is None:
        raise InputError(
            f"The teacher's tokenizer, {type(tokenizer).__name__}, has no padding token, so that its rows make no "
            "batches. Give it one, as in tokenizer.pad_token = tokenizer.eos_token and model.config.pad_token_id = "
            "tokenizer.pad_token_id, and save both again."
        )
    return tokenizer


def teacher_opener(model_class: Any, *, is_trained: bool = True) -> Callable[[Path], nn.Module]:
    """A function that opens a checkpoint as one of transformers' AutoModelFor... classes.

    Args:
        is_trained: whether a checkpoint that lacks weights of that class, as of its head, is refused.
    """

    def open_teacher(folder: Path) -> nn.Module:
        return _open(model_class, folder, needs_all=is_trained)

    return open_teacher


def open_with_labels(model_class: Any, folder: Path, labels: Sequence[str]) -> nn.Module:
    """A pretrained checkpoint with a new head for these labels."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # the head is meant to be new
    names = dict(enumerate(labels))
    numbers = {name: index for index, name in names.items()}
    head: dict[str, Any] = {"num_labels": len(names), "id2label": names, "label2id": numbers}
    return _open(model_class, folder, **head, ignore_mismatched_sizes=True)  # a head for other labels gives way


def open_headless(model_class: Any, folder: Path, **fields: Any) -> nn.Module:
    """A pretrained checkpoint with a new head; `fields` change its configuration."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # the head is meant to be new
    return _open(model_class, folder, **fields)


def known_labels(teacher: Any) -> list[str] | None:
    """The names of a teacher's outputs, in order; None where it only counts them, or has no configuration."""
    if not hasattr(teacher, "config"):
        return None
    names = [str(teacher.config.id2label[i]) for i in range(teacher.config.num_labels)]
    return None if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


def check_label_count(teacher: Any, names: Sequence[str]) -> None:
    """Refuse data with other labels than the teacher has outputs.

    Raises:
        InputError: naming both numbers.
    """
    outputs = teacher.config.num_labels if hasattr(teacher, "config") else teacher.num_labels
    if len(names) != outputs:
        raise InputError(
            f"The data have {len(names)} labels ({', '.join(names)}), the teacher has {outputs} outputs; give data "
            "labelled for this teacher."
        )


def _open(model_class: Any, folder: Path, needs_all: bool = False, **fields: Any) -> nn.Module:
    try:
        model, found = model_class.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **fields,
        )
    except Exception as error:  # transformers, safetensors and json each raise their own
        said = " ".join(str(error).split())
        raise InputError(f"The teacher {folder} cannot be opened as {model_class.__name__}: {said}") from error
    if needs_all and (missing := sorted(found["missing_keys"])):
        raise InputError(
            f"The teacher {folder} lacks {len(missing)} weights of a {type(model).__name__}, which would be random: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}. Give a checkpoint that was trained on the "
            "task, or another task."
        )
    module: nn.Module = model.float().eval()
    return module
