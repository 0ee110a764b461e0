"""Which runtime opens what: family x precision, its size, what the precision costs, and who loads every graph of it.

    make bench ARGS="-k loads"      EDGEFOLD_LOADS=bert,vit      EDGEFOLD_AARCH64=DIR (tests/make_aarch64_device.sh)

Tiny random models, exported once in fp32 and converted as the exporters do. ONNX Runtime and OpenVINO open each graph
here and run it; ONNX Runtime on aarch64 opens and runs it under emulation; TensorRT-RTX compiles it for compute
capability 8.9 on the CPU. "parity" is the largest difference from fp32 in ONNX Runtime, in units of the largest value
where that is above 1; 8 bits of random weights cost more than those of trained ones.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import families
import generating_models
import numpy as np
import pytest
import torch

from edgefold.artifacts import Artifact, Part, load_artifact, write_artifact
from edgefold.exporters import build_engine, export_generator, export_onnx
from edgefold.exporters.half_precision import halve_model
from edgefold.exporters.quantization import quantize_model
from edgefold.exporters.weight_quantization import quantize_weights
from edgefold.runtimes import example_inputs, open_session

PRECISIONS = ("fp32", "fp16", "int8", "weight-int8", "int4")
AARCH64 = Path(os.environ.get("EDGEFOLD_AARCH64", "nowhere")) / "python3"
CAPABILITY = "8.9"
NOT_FOR_TENSORRT = "refused at export"
"""Operators of ONNX Runtime's own (MatMulNBits), and scales found at run time."""
SIZES = {"batch": 2, "sequence": 5, "past": 3}
RUN_THERE = """
import sys, json, numpy as np, onnxruntime
for path, feeds in json.load(sys.stdin):
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        session.run(None, {name: np.array(*value).reshape(shape) for name, (value, shape) in feeds.items()})
        print(json.dumps("yes"), flush=True)
    except Exception as error:
        print(json.dumps(str(error).splitlines()[0][:90]), flush=True)
"""
Inputs = dict[str, torch.Tensor]


def encoder() -> tuple[Any, Inputs]:
    return families.bert()


def vision() -> tuple[Any, Inputs]:
    return families.vit()


def plain_module() -> tuple[Any, Inputs]:
    return families.fused()


def speech_ctc() -> tuple[Any, Inputs]:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 40}
    layers = {"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
    config = Wav2Vec2Config(**sizes, **layers, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)
    return Wav2Vec2ForCTC(config), {"input_values": torch.randn(2, 800, generator=torch.Generator().manual_seed(0))}


def causal_lm() -> tuple[Any, Inputs]:
    ids = torch.arange(14).reshape(2, 7) + 3
    return generating_models.llama(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def encoder_decoder() -> tuple[Any, Inputs]:
    return generating_models.t5(), causal_lm()[1]


def speech_attention() -> tuple[Any, Inputs]:
    return generating_models.whisper(), {"input_features": torch.randn(2, 8, 40)}


PLAIN = (encoder, vision, plain_module, speech_ctc)
GENERATING = (causal_lm, encoder_decoder, speech_attention)
FAMILIES: dict[str, Callable[[], tuple[Any, Inputs]]] = {f.__name__: f for f in (*PLAIN, *GENERATING)}
CHOSEN = os.environ.get("EDGEFOLD_LOADS", ",".join(FAMILIES)).split(",")


def export(name: str, out: Path) -> tuple[Artifact, Inputs]:
    torch.manual_seed(0)
    model, inputs = FAMILIES[name]()
    make: Any = export_generator if FAMILIES[name] in GENERATING else export_onnx
    return make(model.float().eval(), inputs, out), inputs


def convert(fp32: Artifact, precision: Any, target: str, inputs: Inputs, out: Path) -> Artifact:
    """A copy in that precision; int8 of what generates has its scales found at run time."""
    if precision == "fp32":
        return fp32
    shutil.copytree(fp32.folder, out)
    (out / "artifact.json").unlink()
    method: Any = "dynamic" if fp32.generation else "static"
    specs: dict[str, Any] = {}
    for file in dict.fromkeys((fp32.model_file, *(part.model_file for part in fp32.parts.values()))):
        if precision == "fp16":
            specs[file] = halve_model(out / file)
        elif precision == "int8":
            quantize_model(out / file, method, target, [inputs] if method == "static" else [])
        else:
            quantize_weights(out / file, {"weight-int8": 8, "int4": 4}[precision])
    at = {file: (specs[file].inputs, specs[file].outputs) for file in specs}
    parts = {}
    for name, part in fp32.parts.items():
        given, taken = at.get(part.model_file, (part.inputs, part.outputs))
        parts[name] = Part(model_file=part.model_file, inputs=tuple(given), outputs=tuple(taken))
    ends = at.get(fp32.model_file, (fp32.inputs, fp32.outputs))
    facts: dict[str, Any] = {"format": "onnx", "target": target, "model_file": fp32.model_file}
    facts |= {"inputs": ends[0], "outputs": ends[1], "parts": parts, "generation": fp32.generation}
    return write_artifact(out, precision=precision, **facts)


def graphs(artifact: Artifact) -> dict[str, Artifact]:
    return {name: artifact.part(name) for name in artifact.parts} or {"model": artifact}


def feeds_of(graph: Artifact) -> dict[str, Any]:
    return example_inputs(graph.inputs, **SIZES, vocab_size=40)


def reason(error: Exception) -> str:
    return " ".join(str(error).split())[:110].replace("|", "/")


def runs_in(runtime: str, artifact: Artifact) -> tuple[str, dict[str, Any]]:
    """ "yes" or why not, and what came out."""
    found = {}
    for name, graph in graphs(artifact).items():
        try:
            with open_session(graph, runtime=runtime) as session:
                found |= {f"{name}.{key}": value for key, value in session.run(feeds_of(graph)).items()}
        except Exception as error:  # each runtime raises its own
            return f"{name}: {reason(error)}", found
    return "yes", found


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    worst = 0.0
    for name in expected.keys() & found.keys():
        a, b = (np.asarray(values[name], np.float64) for values in (found, expected))
        worst = max(worst, float(np.abs(a - b).max(initial=0.0) / max(1.0, np.abs(b).max(initial=0.0))))
    return worst


def compiles(artifact: Artifact, out: Path) -> str:
    """TensorRT-RTX, on the CPU."""
    every = [spec for graph in graphs(artifact).values() for spec in graph.inputs]
    names = {size for spec in every for size in spec.shape if isinstance(size, str) and " + " not in size}
    try:
        ranges = [dict.fromkeys(names, (1, 4, 16))]
        build_engine(artifact, out, profiles=ranges, compute_capabilities=[CAPABILITY], cache=out.parent / "engines")
    except Exception as error:
        return reason(error)
    return "yes"


def run_on_aarch64(artifacts: list[Artifact]) -> Iterator[str]:
    """Of each artifact, all in one emulated process."""
    if not AARCH64.is_file():
        yield from ("not here" for _ in artifacts)
        return
    asked = [(index, graph) for index, artifact in enumerate(artifacts) for graph in graphs(artifact).values()]
    wanted = [
        (
            str(graph.model_path),
            {
                name: ((value.ravel().tolist(), value.dtype.name), list(value.shape))
                for name, value in feeds_of(graph).items()
            },
        )
        for _, graph in asked
    ]
    done = subprocess.run(
        [str(AARCH64), "-c", RUN_THERE], input=json.dumps(wanted), capture_output=True, text=True, check=False
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    answers += [f"the process ended with {done.returncode}"] * (len(asked) - len(answers))
    for index in range(len(artifacts)):
        said = [answer for (number, _), answer in zip(asked, answers, strict=True) if number == index]
        yield next((answer for answer in said if answer != "yes"), "yes")


@pytest.mark.parametrize("name", [name for name in FAMILIES if name in CHOSEN])
def test_loads(name: str, tmp_path: Path) -> None:
    fp32, inputs = export(name, tmp_path / "fp32")
    made: dict[str, Artifact] = {}
    rows: dict[str, list[str]] = {}
    _, expected = runs_in("onnxruntime", fp32)
    for precision in PRECISIONS:
        try:
            artifact = convert(fp32, precision, "cpu-x86", inputs, tmp_path / precision)
        except Exception as error:
            rows[precision] = ["", "", reason(error)]
            continue
        made[precision] = load_artifact(artifact.folder)
        said, found = runs_in("onnxruntime", artifact)
        rows[precision] = [f"{artifact.size_bytes / 1e3:.0f}", f"{difference(found, expected):.1e}", said]
        rows[precision].append(runs_in("openvino", artifact)[0])
        if precision in ("weight-int8", "int4") or (precision == "int8" and fp32.generation):
            rows[precision].append(NOT_FOR_TENSORRT)
        else:
            other = convert(fp32, precision, "tensorrt", inputs, tmp_path / f"{precision}-tensorrt")
            rows[precision].append(compiles(other, tmp_path / f"{precision}-engine"))
    there = dict(zip(made, run_on_aarch64(list(made.values())), strict=True))
    print(
        f"\n| {name} | kB | parity | ONNX Runtime | aarch64 | OpenVINO | TensorRT-RTX |\n|---|---|---|---|---|---|---|"
    )
    for precision, row in rows.items():
        cells = [*row[:3], there.get(precision, ""), *row[3:]]
        print(f"| {precision} | {' | '.join(cells)} |")
        assert row[2] == "yes" or precision not in made
