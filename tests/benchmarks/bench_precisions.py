"""SmolLM2-135M in every precision: size, perplexity and divergence on held-out English, tokens/s against fp32, paired.

Exported once in fp32; the other precisions are made of that file, as `export_generator` makes them. Processor time of
one thread, 64 greedy tokens, the precisions in turn.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from language import token_batches
from transformers import AutoModelForCausalLM

from edgefold.artifacts import Artifact, write_artifact
from edgefold.exporters import export_generator
from edgefold.exporters.half_precision import halve_model
from edgefold.exporters.quantization import quantize_model
from edgefold.exporters.weight_quantization import quantize_weights
from edgefold.packaged.models import fetch_smollm2
from edgefold.runtimes import generate, open_session
from edgefold.runtimes.generation import CausalSteps
from edgefold.runtimes.sessions import Session

TOKENS = 64
ROUNDS = int(os.environ.get("EDGEFOLD_PRECISION_ROUNDS", "3"))
HELD_OUT = int(os.environ.get("EDGEFOLD_PRECISION_TOKENS", "2048"))
CONVERT: dict[str, Callable[[Path], Any]] = {
    "fp16": halve_model,
    "int8": lambda path: quantize_model(path, "dynamic", "cpu-x86", []),
    "weight-int8": lambda path: quantize_weights(path, 8),
    "int4": lambda path: quantize_weights(path, 4),
}


def converted(fp32: Artifact, precision: Any, folder: Path) -> Artifact:
    """A copy in that precision."""
    shutil.copytree(fp32.folder, folder)
    (folder / "artifact.json").unlink()
    made = CONVERT[precision](folder / fp32.model_file)
    inputs, outputs = (made.inputs, made.outputs) if precision == "fp16" else (fp32.inputs, fp32.outputs)
    facts: dict[str, Any] = {"format": "onnx", "target": "cpu-x86", "model_file": fp32.model_file}
    return write_artifact(
        folder, precision=precision, inputs=inputs, outputs=outputs, generation=fp32.generation, **facts
    )


def log_probabilities(session: Session) -> np.ndarray:
    """Of every token of the vocabulary after every held-out token: (tokens, vocabulary)."""
    rows = []
    for batch in token_batches(HELD_OUT, held_out=True):
        for ids in batch["input_ids"].numpy():
            logits = CausalSteps(session, np.ones((1, len(ids)), np.int64)).advance(ids[None])[0]
            rows.append(torch.from_numpy(logits.astype(np.float32)).log_softmax(-1).numpy())
    return np.stack(rows)


def next_tokens() -> np.ndarray:
    return np.concatenate([batch["input_ids"].numpy() for batch in token_batches(HELD_OUT, held_out=True)])[:, 1:]


def test_precisions(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(fetch_smollm2(), local_files_only=True, dtype=torch.float32)
    ids = torch.arange(40).reshape(2, 20) * 7 % 4096
    fp32 = export_generator(model.eval(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, tmp_path / "fp32")
    del model
    artifacts = {"fp32": fp32} | {name: converted(fp32, name, tmp_path / name) for name in CONVERT}
    labels, reference = next_tokens(), np.empty(0)
    times: dict[str, list[float]] = {name: [] for name in artifacts}
    for name, artifact in artifacts.items():
        with open_session(artifact, threads=1) as session:
            found = log_probabilities(session)
        reference = found if name == "fp32" else reference
        taken = np.take_along_axis(found[:, :-1], labels[..., None], -1)
        divergence = float((np.exp(reference) * (reference - found)).sum(-1).mean())
        same = float((found.argmax(-1) == reference.argmax(-1)).mean())
        print(
            f"\n{name:12} {artifact.size_bytes / 1e6:6.1f} MB, perplexity {np.exp(-taken.mean()):6.2f}, "
            f"divergence {divergence:.4f} nats, same likeliest token {same:.1%}",
            end="",
        )
        assert divergence < 1.0
    prompt = labels[:1, :32]
    for _ in range(ROUNDS):
        for name, artifact in artifacts.items():
            with open_session(artifact, threads=1) as session:
                generate(session, prompt, 2, end_ids=())
                begun = time.process_time()
                generate(session, prompt, TOKENS, end_ids=())
                times[name].append(time.process_time() - begun)
    for name, found_times in times.items():
        ratio = median(plain / other for plain, other in zip(times["fp32"], found_times, strict=True))
        print(
            f"\n{name:12} {TOKENS / median(found_times):6.1f} tokens/s of processor time, {ratio:.2f} times fp32",
            end="",
        )
