"""export_generator: a language model or encoder-decoder as ONNX graphs that keep keys and values from step to step."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgefold.artifacts import Artifact, Generation, Part, Precision, TensorSpec, load_artifact, write_artifact
from edgefold.errors import GateError
from edgefold.exporters.cache_layouts import cache_argument
from edgefold.exporters.causal_decoders import causal_part
from edgefold.exporters.generation_parity import Agreement, compare_causal, compare_sequence
from edgefold.exporters.generation_settings import read_generation
from edgefold.exporters.graph_parts import GraphPart, convert_part
from edgefold.exporters.graph_saving import SINGLE_FILE_BYTES, read_specs, save_graph
from edgefold.exporters.half_precision import halve_model, sum_kept
from edgefold.exporters.older_opsets import lower_opset
from edgefold.exporters.optimum_layout import write_optimum_layout
from edgefold.exporters.precisions import BITS, MOST_DIVERGENCE, check_precision
from edgefold.exporters.preparation import check_exportable, prepared, zero_shares
from edgefold.exporters.quantization import check_quantization, quantize_model
from edgefold.exporters.sequence_decoders import sequence_parts
from edgefold.exporters.targets import TORCH_OPSET, choose_opset
from edgefold.exporters.versions import exporting_versions
from edgefold.exporters.weight_quantization import quantize_weights
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
    precision: Precision = "fp32",
    target: str = "cpu-x86",
    tokenizer: Any = None,
    lineage: Mapping[str, Any] | None = None,
    opset: int | None = None,
    tolerance: float = 1e-4,
    half_tolerance: float = 1e-2,
    least_agreement: float = 0.9,
    most_divergence: float | None = None,
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
        precision: "fp16" keeps sensitive operators in fp32 and lists them in `lineage["kept_fp32"]`, keys and values
            are in fp16 as well; "int8" quantizes weights per output channel and activations at run time; "weight-int8"
            and "int4" quantize weights alone, in blocks.
        target: one of `edgefold.exporters.targets.TARGETS`; decides the opset and the encoding of int8.
        tokenizer: anything with `save_pretrained`, or a folder whose tokenizer files are copied.
        tolerance: largest difference of a logit from torch's in fp32, in units of the largest logit where that is
            above 1.
        half_tolerance: the same of fp16.
        least_agreement: of int8, the least share of tokens after which the likeliest token stays the same.
        most_divergence: of weights in int8 or int4, the largest mean divergence KL(torch ‖ artifact) of the next token,
            in nats; else that of `edgefold.exporters.precisions.MOST_DIVERGENCE`.
        single_file_bytes: more weights than this are written beside the graph.

    Raises:
        InputError: an unfolded student, a model without a cache of keys and values (a traced graph is one), unknown
            names, an output that exists.
        GateError: the graphs do not compute what torch computes, or the precision costs more than its gate allows.
    """
    check_exportable(model)
    cache_argument(model)
    check_precision(precision, target)
    if precision == "int8":
        check_quantization("dynamic", target, ())
    opset = choose_opset(target, opset)
    check_output_folder(out, overwrite)
    is_sequence = bool(getattr(model.config, "is_encoder_decoder", False))
    with prepared(model), staged_folder(out, overwrite) as folder:
        parts = sequence_parts(model, inputs) if is_sequence else (causal_part(model),)
        settings = read_generation(model, _layers(parts[-1]))
        specs = {part.name: _write(part, folder, opset, single_file_bytes) for part in parts}
        parity = {"fp32": _check_fp32(_compare(model, folder, inputs, settings), tolerance).error}
        kept: dict[str, int] | None = None
        if precision == "fp16":
            halved = {part.name: halve_model(folder / part.file, single_file_bytes) for part in parts}
            specs = {name: (found.inputs, found.outputs) for name, found in halved.items()}
            kept = sum_kept(found.kept for found in halved.values())
        elif precision != "fp32":
            for part in parts:
                _quantize(folder / part.file, precision, target)
        if precision != "fp32":
            agreement = _compare(model, folder, inputs, settings)
            _check_lower(
                precision, agreement, _Gates(half_tolerance, least_agreement, _or_default(most_divergence, precision))
            )
            parity |= {
                precision: agreement.error,
                f"{precision}_same_choice": agreement.same_choice,
                f"{precision}_divergence": agreement.divergence,
            }
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
                "sparsity": zero_shares(model),
                "quantization": "dynamic" if precision == "int8" else None,
                **({"kept_fp32": kept} if kept is not None else {}),
                "versions": exporting_versions(),
            },
        )
    return load_artifact(out)


def _write(part: GraphPart, folder: Path, opset: int, single_file_bytes: int) -> Specs:
    """Convert and save one graph, of which nothing stays in memory."""
    graph = convert_part(part, max(opset, TORCH_OPSET))
    if opset < TORCH_OPSET:
        lower_opset(graph)
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


def _quantize(path: Path, precision: Precision, target: str) -> None:
    if precision == "int8":
        quantize_model(path, "dynamic", target, [])
    else:
        quantize_weights(path, BITS[precision])


def _or_default(divergence: float | None, precision: Precision) -> float:
    return MOST_DIVERGENCE.get(precision, 0.0) if divergence is None else divergence


@dataclass(frozen=True)
class _Gates:
    half_tolerance: float
    least_agreement: float
    most_divergence: float


def _check_lower(precision: Precision, found: Agreement, gates: _Gates) -> None:
    """The gate of a precision below fp32."""
    if precision == "fp16" and not found.error <= gates.half_tolerance:
        raise GateError(
            f"In fp16 the logits differ from torch by up to {found.error:.2e} of the largest, more than "
            f"{gates.half_tolerance:.0e}; nothing was written. Export it in fp32, or allow more with half_tolerance."
        )
    if precision == "int8" and not found.same_choice >= gates.least_agreement:
        raise GateError(
            f"In int8 the likeliest token stays the same after {found.same_choice:.1%} of the tokens, less than "
            f"{gates.least_agreement:.1%}; nothing was written. Export it in fp32, or allow more with least_agreement."
        )
    if precision in BITS and not found.divergence <= gates.most_divergence:
        raise GateError(
            f"With weights in {precision} the next token diverges from torch by {found.divergence:.3f} nats, more than "
            f"{gates.most_divergence:g}; nothing was written. Export more bits, or allow more with most_divergence."
        )
