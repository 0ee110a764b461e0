"""export_generator: a language model or encoder-decoder as ONNX graphs that keep keys and values from step to step."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from edgefold.artifacts import Artifact, Generation, Part, TensorSpec, load_artifact, write_artifact
from edgefold.errors import GateError, InputError
from edgefold.exporters.cache_layouts import cache_argument
from edgefold.exporters.causal_decoders import causal_part
from edgefold.exporters.generation_parity import Agreement, compare_causal, compare_sequence
from edgefold.exporters.generation_settings import read_generation
from edgefold.exporters.graph_parts import GraphPart, convert_part
from edgefold.exporters.graph_saving import SINGLE_FILE_BYTES, read_specs, save_graph
from edgefold.exporters.optimum_layout import write_optimum_layout
from edgefold.exporters.preparation import check_exportable, prepared
from edgefold.exporters.quantization import check_quantization, quantize_model
from edgefold.exporters.sequence_decoders import sequence_parts
from edgefold.staging import check_output_folder, staged_folder

Batch = Mapping[str, Tensor]
Specs = tuple[list[TensorSpec], list[TensorSpec]]
SUFFIX = "_model"
"""Of the graphs of an encoder-decoder: the part "encoder" stands in encoder_model.onnx."""


def export_generator(
    model: nn.Module,
    inputs: Batch,
    out: str | Path,
    *,
    precision: Literal["fp32", "int8"] = "fp32",
    target: str = "cpu-x86",
    tokenizer: Any = None,
    lineage: Mapping[str, Any] | None = None,
    opset: int = 20,
    tolerance: float = 1e-4,
    least_agreement: float = 0.9,
    single_file_bytes: int = SINGLE_FILE_BYTES,
    overwrite: bool = False,
) -> Artifact:
    """Export a model that generates text, check every kind of pass against torch, and write what optimum opens too.

    A causal language model becomes one graph, model.onnx, for the prompt and every step after it; an encoder-decoder
    becomes encoder_model.onnx, decoder_model.onnx and decoder_with_past_model.onnx. `edgefold.runtimes.generate` and
    `generate_sequence` run them.

    Args:
        inputs: real keyword tensors, several rows of different lengths with their mask: input_ids and attention_mask,
            of the encoder where there is one; or input_features. On them the graphs are compared with torch.
        precision: "int8" quantizes weights per output channel and activations at run time.
        target: "cpu-x86" or "cpu-arm"; decides the encoding of int8.
        tokenizer: anything with `save_pretrained`, or a folder whose tokenizer files are copied.
        tolerance: largest difference of a logit from torch's in fp32, in units of the largest logit where that is
            above 1.
        least_agreement: of int8, the least share of tokens after which the likeliest token stays the same.
        single_file_bytes: more weights than this are written beside the graph.

    Raises:
        InputError: an unfolded student, a model without a cache of keys and values (a traced graph is one), unknown
            names, an output that exists.
        GateError: the graphs do not compute what torch computes, or int8 costs more than `least_agreement` allows.
    """
    check_exportable(model)
    cache_argument(model)
    if precision not in ("fp32", "int8"):
        raise InputError(f"precision={precision!r} is not known; choose one of fp32, int8.")
    check_quantization("dynamic", target, ())
    check_output_folder(out, overwrite)
    is_sequence = bool(getattr(model.config, "is_encoder_decoder", False))
    with prepared(model), staged_folder(out, overwrite) as folder:
        parts = sequence_parts(model, inputs) if is_sequence else (causal_part(model),)
        settings = read_generation(model, _layers(parts[-1]))
        specs = {part.name: _write(part, folder, opset, single_file_bytes) for part in parts}
        parity = {"fp32": _check_fp32(_compare(model, folder, inputs, settings), tolerance).error}
        if precision == "int8":
            for part in parts:
                quantize_model(folder / part.file, "dynamic", target, [])
            found = _check_int8(_compare(model, folder, inputs, settings), least_agreement)
            parity |= {"int8": found.error, "int8_same_choice": found.same_choice}
        write_optimum_layout(folder, model, tokenizer, keeps_cache=True)
        main = parts[0]
        write_artifact(
            folder,
            format="onnx",
            precision=precision,
            target=target,
            model_file=main.file,
            inputs=specs[main.name][0],
            outputs=specs[main.name][1],
            task=_task(inputs, is_sequence),
            parts=_named_parts(parts, specs) if is_sequence else None,
            generation=settings,
            lineage={
                **(lineage or {}),
                "parity": parity,
                "opset": opset,
                "quantization": "dynamic" if precision == "int8" else None,
                "versions": {name: version(name) for name in ("edgefold", "torch", "onnx", "onnxruntime")},
            },
        )
    return load_artifact(out)


def _write(part: GraphPart, folder: Path, opset: int, single_file_bytes: int) -> Specs:
    """Convert and save one graph, of which nothing stays in memory."""
    graph = convert_part(part, opset)
    save_graph(graph, folder / part.file, opset, single_file_bytes)
    return read_specs(graph)


def _named_parts(parts: Iterable[GraphPart], specs: Mapping[str, Specs]) -> dict[str, Part]:
    return {
        part.name.removesuffix(SUFFIX): Part(
            model_file=part.file, inputs=tuple(specs[part.name][0]), outputs=tuple(specs[part.name][1])
        )
        for part in parts
    }


def _layers(part: GraphPart) -> int:
    """Layers of the part that has a past."""
    return len({name.split(".")[1] for name in part.inputs if name.startswith("past_key_values.")})


def _task(inputs: Batch, is_sequence: bool) -> str:
    """As optimum calls it."""
    if not is_sequence:
        return "text-generation-with-past"
    return "automatic-speech-recognition-with-past" if "input_features" in inputs else "text2text-generation-with-past"


def _compare(model: nn.Module, folder: Path, inputs: Batch, settings: Generation) -> Agreement:
    if getattr(model.config, "is_encoder_decoder", False):
        return compare_sequence(model, folder, inputs, settings)
    return compare_causal(model, folder / "model.onnx", inputs)


def _check_fp32(found: Agreement, tolerance: float) -> Agreement:
    if not found.error <= tolerance:
        raise GateError(
            f"The exported graphs differ from torch by up to {found.error:.2e} of the largest logit, more than "
            f"{tolerance:.0e}; nothing was written. Check forward for values computed from example shapes."
        )
    return found


def _check_int8(found: Agreement, least: float) -> Agreement:
    if not found.same_choice >= least:
        raise GateError(
            f"In int8 the likeliest token stays the same after {found.same_choice:.1%} of the tokens, less than "
            f"{least:.1%}; nothing was written. Export it in fp32, or allow more with least_agreement."
        )
    return found
