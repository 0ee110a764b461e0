"""Example inputs of a model of any kind, and the name of its task, as optimum makes and calls them.

optimum's own table of what each type of model reads is in optimum-onnx, which needs an older transformers. Here forward
names the inputs, the configuration tells their sizes, and a trial run decides where two layouts bear one name, as waves
and spectrograms do.
"""

import inspect
import itertools
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.tasks import TasksManager
from optimum.utils.input_generators import (
    ASTDummyAudioInputGenerator,
    DummyAudioInputGenerator,
    DummyBboxInputGenerator,
    DummyDecoderTextInputGenerator,
    DummyPatchTSTInputGenerator,
    DummyPointsGenerator,
    DummyTextInputGenerator,
    DummyVisionInputGenerator,
    Speech2TextDummyAudioInputGenerator,
)
from optimum.utils.normalized_config import NormalizedConfig
from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.exporters.dynamic_shapes import DynamicAxes
from edgefold.runtimes.devices import USUAL_SIZES


@dataclass(frozen=True)
class Source:
    """One layout of an input."""

    generator: Callable[..., Any]
    axes: tuple[str, ...] = ("batch",)
    """Names of the first axes, which are dynamic."""


TEXT = Source(DummyTextInputGenerator, ("batch", "sequence"))
CHOICES = Source(DummyTextInputGenerator, ("batch", "choices", "sequence"))
READ: dict[str, tuple[Source, ...]] = {
    "input_ids": (TEXT,),
    "attention_mask": (TEXT,),
    "token_type_ids": (TEXT,),
    "bbox": (Source(DummyBboxInputGenerator, ("batch", "sequence")),),
    "pixel_values": (Source(DummyVisionInputGenerator),),
    "visual_embeds": (Source(DummyVisionInputGenerator),),
    "input_points": (Source(DummyPointsGenerator),),
    "input_labels": (Source(DummyPointsGenerator),),
    "input_values": (
        Source(ASTDummyAudioInputGenerator),
        Source(DummyAudioInputGenerator, ("batch", "samples")),
    ),
    "input_features": (
        Source(Speech2TextDummyAudioInputGenerator, ("batch", "frames")),
        Source(DummyAudioInputGenerator),
    ),
    "past_values": (Source(DummyPatchTSTInputGenerator),),
    "decoder_input_ids": (Source(DummyDecoderTextInputGenerator, ("batch", "sequence")),),
}
"""Input -> its layouts; the first is taken whose sizes the configuration has and which forward takes."""
OTHER_NAMES = {
    "feature_size": ("num_mel_bins",),
    "input_features_per_channel": ("input_feat_per_channel", "feature_projection_input_dim"),
}
"""What optimum calls a size -> what configurations call it."""
ROWS, TOKENS = 2, 16
"""Of the example; a single row would be taken for a constant."""


def make_inputs(model: nn.Module, folder: Path | None) -> tuple[dict[str, Tensor], DynamicAxes]:
    """What optimum makes up for a model, and the names of the axes that may have other sizes.

    Args:
        folder: of the checkpoint; its image processor tells the size of an image. None where there is no folder.

    Raises:
        InputError: forward needs an input that optimum has no generator for, or does not take what was made up.
    """
    sizes = _Sizes(model.config, find_image_size(folder) if folder else None)
    names = choose_inputs(model, sizes)
    task = name_task(model) or ""
    with _reproducible():
        layouts = [list(_make(name, task, sizes)) for name in names]
    error: Exception | None = None
    for chosen in itertools.product(*layouts):
        inputs = {name: value for name, (value, _) in zip(names, chosen, strict=True)}
        try:
            with torch.no_grad():
                model(**{name: value.clone() for name, value in inputs.items()})
        except Exception as raised:  # whatever a forward raises at tensors that it was not made for
            error = raised
            continue
        return inputs, {name: axes for name, (_, axes) in zip(names, chosen, strict=True)}
    raise InputError(
        f"{type(model).__name__} does not take the {', '.join(names)} that optimum makes up: "
        f"{' '.join(str(error).split()) if error else 'its configuration lacks their sizes'}. In Python there is "
        "edgefold.exporters.export_onnx(model, inputs, out)."
    )


def name_task(model: nn.Module) -> str | None:
    """optimum's name of what the model's class is for; None where it has none."""
    try:
        return str(TasksManager.infer_task_from_model(model))
    except ValueError:
        return None


def choose_inputs(model: nn.Module, sizes: Any) -> list[str]:
    """The inputs in forward's signature that there are generators for; masks and types of tokens with tokens alone.

    Raises:
        InputError: one that forward cannot do without is not among them.
    """
    parameters = inspect.signature(model.forward).parameters
    left_out = set()
    if "input_ids" not in parameters:
        left_out |= {"attention_mask"}
    if getattr(sizes, "type_vocab_size", 0) < 2:
        left_out |= {"token_type_ids"}
    names = [name for name in READ if name in parameters and name not in left_out]
    by_keyword = {n: each for n, each in parameters.items() if each.kind == each.POSITIONAL_OR_KEYWORD}
    needed = {name for name, each in by_keyword.items() if each.default is each.empty}
    for name in sorted(needed | {str(model.main_input_name)}):
        if name not in names:
            raise InputError(
                f"{type(model).__name__} reads {name}, which optimum's generators of {', '.join(READ)} do not make up; "
                "in Python there is edgefold.exporters.export_onnx(model, inputs, out)."
            )
    return names


def _make(name: str, task: str, sizes: Any) -> Iterator[tuple[Tensor, dict[int, str]]]:
    """The input in each layout whose sizes are known, with its dynamic axes."""
    positions = getattr(sizes, "max_source_positions", None)
    options = {
        "batch_size": ROWS,
        "sequence_length": min(TOKENS, getattr(sizes, "max_position_embeddings", TOKENS)),
        "num_choices": USUAL_SIZES["choices"],
        "audio_sequence_length": USUAL_SIZES["frames" if "features" in name else "samples"],
        **({"nb_max_frames": 2 * positions} if positions else {}),  # Whisper's convolutions halve them
    }
    for source in READ[name]:
        try:
            value = source.generator(task, NormalizedConfig(sizes), **options).generate(name)
        except (AttributeError, TypeError, ValueError):  # a size that the configuration lacks, or has otherwise
            continue
        axes = CHOICES.axes if source is TEXT and value.dim() == 3 else source.axes
        yield value, dict(enumerate(axes))


class _Sizes:
    """The fields of a configuration, then those of the configurations within it, by optimum's names too."""

    def __init__(self, config: Any, image_size: tuple[int, int] | None) -> None:
        parts = [getattr(config, name, None) for name in getattr(config, "sub_configs", ())]
        self.configs = [config, *(part for part in parts if part is not None)]
        side = getattr(config, "input_size", None)
        if image_size or isinstance(side, int):
            self.image_size = image_size or (side, side)

    def __getattr__(self, name: str) -> Any:
        for each in (name, *OTHER_NAMES.get(name, ())):
            for config in self.configs:
                if (value := getattr(config, each, None)) is not None:
                    return value
        raise AttributeError(f"The configuration has no {name}.")


def find_image_size(folder: Path) -> tuple[int, int] | None:
    """Height and width that the image processor beside a model makes of every image; None where it does not say."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        try:
            fields = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        fields = fields.get("image_processor", fields)
        size = fields.get("crop_size") if fields.get("do_center_crop") else fields.get("size")
        if isinstance(size, dict) and {"height", "width"} <= size.keys():
            return size["height"], size["width"]
    return None


@contextmanager
def _reproducible() -> Iterator[None]:
    """The same inputs every time; the generators ask both of these."""
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random.seed(0)
        try:
            yield
        finally:
            random.setstate(state)
