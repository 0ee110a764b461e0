"""Opening what a user names on the command line: a folded student or an ordinary Hugging Face checkpoint."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgefold.checkpoints import MANIFEST, load_student, read_manifest
from edgefold.cli.samples import find_architecture, find_kind
from edgefold.errors import InputError

TASKS = {
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "fill-mask": "AutoModelForMaskedLM",
    "image-classification": "AutoModelForImageClassification",
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "automatic-speech-recognition": "AutoModelForSpeechSeq2Seq",
    "feature-extraction": "AutoModel",
}
ARCHITECTURES = {
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForImageClassification": "image-classification",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "WhisperForConditionalGeneration": "automatic-speech-recognition",
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "text2text-generation",
}
"""End of an architecture's name -> task, the first that fits; any other is feature-extraction."""


def open_model(source: Path | str, task: str | None = None) -> nn.Module:
    """A student's folder, a checkpoint's folder (Path) or a model of the hub (str), in evaluation mode and float32.

    Code that comes with a checkpoint is never run, and weights are read from safetensors alone.

    Raises:
        InputError: an unknown task, or files that are missing, corrupt or do not fit.
    """
    if isinstance(source, Path) and (source / MANIFEST).is_file():
        return load_student(source)
    name = TASKS[task] if task else _find_class(source)
    if not isinstance(getattr(transformers, name, None), type):
        raise InputError(f"The model {source} is a {name}, which transformers {transformers.__version__} has not.")
    try:
        model, found = getattr(transformers, name).from_pretrained(
            source,
            local_files_only=isinstance(source, Path),
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # transformers, safetensors and json each raise their own
        raise InputError(f"The model {source} cannot be opened as {name}: {' '.join(str(error).split())}") from error
    if (missing := sorted(found["missing_keys"])) and not task:
        raise InputError(
            f"The model {source} lacks {len(missing)} weights of a {type(model).__name__}, which would be random: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}. Name the class that it was saved as in "
            "config.json (architectures), or save it again with all its weights."
        )
    module: nn.Module = model.eval()
    return module


def open_architecture(source: Path | str, task: str | None = None, device: str = "meta") -> nn.Module:
    """What `open_model` opens, its weights made up: a configuration is enough, and on the meta device size no matter.

    A student that its configuration does not describe is opened with its weights.

    Raises:
        InputError: as `open_model`.
    """
    if isinstance(source, Path) and (source / MANIFEST).is_file() and not read_manifest(source)["uniform"]:
        return load_student(source)
    try:
        config: Any = transformers.AutoConfig.from_pretrained(
            source, local_files_only=isinstance(source, Path), trust_remote_code=False
        )
        named = getattr(transformers, (config.architectures or [""])[0] or "AutoModel", None)
        model_class = named if isinstance(named, type) and issubclass(named, transformers.PreTrainedModel) else None
        config.use_cache = False
        with torch.device(device):
            built: Any = (
                model_class(config)
                if model_class and task is None
                else getattr(transformers, TASKS[task or "feature-extraction"]).from_config(config)
            )
    except Exception as error:  # transformers and json each raise their own
        raise InputError(f"The model {source} cannot be built: {' '.join(str(error).split())}") from error
    module: nn.Module = built.eval()
    return module


def find_task(source: Path | str) -> str:
    """The task that the architecture named in a checkpoint's configuration was made for."""
    if isinstance(source, Path):
        if (source / MANIFEST).is_file() and not (source / "config.json").is_file():
            return "image-classification" if (source / "preprocessor_config.json").is_file() else "feature-extraction"
        try:
            architectures = json.loads((source / "config.json").read_text(encoding="utf-8")).get("architectures") or [
                ""
            ]
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{source / 'config.json'} cannot be read as JSON: {error}.") from None
    else:
        architectures = _hub_architectures(source)
    return next((task for end, task in ARCHITECTURES.items() if architectures[0].endswith(end)), "feature-extraction")


def _find_class(source: Path | str) -> str:
    """That of its task; where none is told by its name, the very class that its configuration names."""
    task = find_task(source)
    if isinstance(source, Path) and (task == "feature-extraction" or find_kind(source) == "made-up"):
        return find_architecture(source) or TASKS[task]
    return TASKS[task]


def _hub_architectures(name: str) -> list[str]:
    try:
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False).architectures or [""]
    except Exception as error:
        raise InputError(f"The model {name} cannot be had from the hub: {' '.join(str(error).split())}") from error


def makes_up(model: nn.Module) -> bool:
    """Whether `made_up_inputs` has what the model mainly reads: tokens, or images of a size that is told."""
    main, config = getattr(model, "main_input_name", None), getattr(model, "config", None)
    if main == "pixel_values":
        return isinstance(getattr(config, "image_size", None), int)
    return main == "input_ids" and config is not None


def made_up_inputs(model: nn.Module, batch: int, sequence: int) -> dict[str, Tensor]:
    """Tensors of the right shapes for a trace; their values mean nothing.

    Raises:
        InputError: the model reads neither token ids nor images.
    """
    if not makes_up(model):
        main = getattr(model, "main_input_name", None)
        raise InputError(
            f"{type(model).__name__} reads {main or 'unknown inputs'}; use edgefold.trace(model, inputs) in Python."
        )
    config: Any = model.config
    device = next(model.parameters()).device
    if model.main_input_name == "pixel_values":
        size = (batch, config.num_channels, config.image_size, config.image_size)
        return {"pixel_values": torch.zeros(size, device=device)}
    limit = getattr(config, "max_position_embeddings", None) or sequence
    ids = torch.arange(batch * min(sequence, limit)).reshape(batch, -1) % min(config.vocab_size, 100)
    inputs = {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}
    return {**inputs, "decoder_input_ids": ids.to(device)} if config.is_encoder_decoder else inputs


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def as_function(model: nn.Module) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The model as a function of arrays by name, as a session's run."""

    def run(batch: Mapping[str, Any]) -> dict[str, Any]:
        inputs = {name: torch.as_tensor(value) for name, value in batch.items()}
        try:
            with torch.no_grad():
                outputs = model(**inputs)
        except (TypeError, IndexError, RuntimeError, ValueError) as error:
            shown = ", ".join(f"{name} {tuple(value.shape)}" for name, value in inputs.items())
            said = str(error).strip().splitlines()[0]
            raise InputError(f"The {type(model).__name__} does not take {shown}: {said}.") from None
        return _named_arrays(outputs if isinstance(outputs, Mapping) else _numbered(outputs))

    return run


def _numbered(outputs: Any) -> dict[str, Tensor]:
    """The tensors that a module of one's own returns, as the exporter calls them."""
    tensors = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    return {"output" if len(tensors) == 1 else f"output_{i}": tensor for i, tensor in enumerate(tensors)}


def _named_arrays(outputs: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The tensors among outputs, those within others as `outer.inner`, as the exporter calls them."""
    found: dict[str, Any] = {}
    for name, value in outputs.items():
        if isinstance(value, Tensor):
            found[above + name] = value.numpy()
        elif isinstance(value, Mapping):
            found |= _named_arrays(value, f"{above}{name}.")
    return found
