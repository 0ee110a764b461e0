"""edgefold's student of the demo task beside what other tools make of the same teacher, in the same seconds.

    make demo && EDGEFOLD_DEMO=out/demo make bench ARGS="-k peers_on_the"

Each tool has an environment of its own below the cache (five gigabytes, once). Those that train get the processor
seconds that edgefold's student took, its start and the teacher's outputs included, on one thread, anew for each of
two learning rates, of which the validation texts choose. Their students are exported and quantized by edgefold, as
they have no exporter for a CPU. PEERS="ModelOpt" chooses among the trained ones, SECONDS=60 shortens them. Accuracy is
that of the 2,000 test texts in the runtime in which a model is timed; times are the processor's, batch 1 of 128 tokens,
one thread, all in turns.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
import torch
from demo_teacher import FOLDER, TASK, Demo
from peer_environments import TORCH, own_environment, run_in
from peer_students import MODELOPT, SCRIPTS, SHAPES, PeerTrainings, padded
from torch import nn
from transformers import DataCollatorWithPadding

from edgefold.artifacts import Artifact, load_artifact, write_artifact
from edgefold.checkpoints import load_student
from edgefold.cli.demo_measurement import BATCH, SEQUENCE, count_encoder_parameters
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.exporters.graph_saving import read_specs
from edgefold.jobs.compression import compress
from edgefold.ratios import paired_ratio
from edgefold.runtimes import Session, benchmark_together, example_inputs, open_session

DEMO = Path(os.environ.get("EDGEFOLD_DEMO", "out/demo"))
TRAINED = os.environ.get("PEERS", "Torch-Pruning,ModelOpt").split(",")
OPTIMUM = ("optimum-onnx-0.1.0", (TORCH, "optimum-onnx[onnxruntime]==0.1.0", "transformers==4.57.6", "pillow"))
OLIVE = ("olive-0.13", (TORCH, "olive-ai==0.13.0", "onnxruntime", "requests"))
OWN_SHAPE, OTHER_SHAPE = SHAPES

pytestmark = pytest.mark.skipif(not (DEMO / "teacher").is_dir(), reason=f"needs {DEMO}, which `make demo` writes")


@dataclass(frozen=True)
class Entry:
    """One artifact that takes part."""

    tool: str
    form: str
    artifact: Artifact
    encoder_parameters: int
    runtime: str = "onnxruntime"

    @property
    def name(self) -> str:
        return f"{self.tool}, {self.form}"


def quantized_teachers(demo: Demo, teacher: Artifact, out: Path) -> Iterator[Entry]:
    """int8 of the teacher by each tool as its documentation has it for such a model."""
    size, model = count_encoder_parameters(demo.teacher), str(teacher.model_path)
    yield from quantized("edgefold", "teacher", teacher, demo, size, out)
    arguments = (str(demo.folder / "teacher"), str(out / "optimum"))
    run_in(own_environment(*OPTIMUM), SCRIPTS / "optimum_int8.py", *arguments)
    run_in(own_environment(*OLIVE), SCRIPTS / "olive_int8.py", model, str(out / "olive"))
    np.savez(out / "calibration.npz", **padded(demo, [spec.name for spec in teacher.inputs], 128))
    (out / "modelopt").mkdir()
    arguments = (str(out / "calibration.npz"), str(out / "modelopt" / "model.onnx"))
    run_in(own_environment(*MODELOPT), SCRIPTS / "modelopt_int8.py", model, *arguments)
    for tool, folder in (("optimum", "optimum"), ("Olive", "olive"), ("ModelOpt, for TensorRT", "modelopt")):
        (found,) = (out / folder).rglob("*.onnx")
        yield Entry(tool, "teacher int8", foreign_artifact(found, out / f"opened-{folder}"), size)


def foreign_artifact(model: Path, folder: Path) -> Artifact:
    """Another tool's ONNX file as an artifact, so that it is opened and measured as ours are."""
    folder.mkdir()
    opened = onnx_ir.load(model)
    onnx_ir.save(opened, folder / "model.onnx")
    inputs, outputs = read_specs(opened)
    facts: Any = {"format": "onnx", "precision": "int8", "target": None, "model_file": "model.onnx", "task": TASK}
    write_artifact(folder, inputs=inputs, outputs=outputs, **facts)
    return load_artifact(folder)


def quantized(tool: str, form: str, fp32: Artifact, demo: Demo, size: int, out: Path) -> Iterator[Entry]:
    """int8 of ONNX Runtime, and that of NNCF in OpenVINO."""
    stem = f"{tool}-{form}".replace(" ", "-").replace(",", "")
    for method in ("static", "dynamic"):
        made = quantize_onnx(fp32, out / f"{stem}-{method}", quantization=method, calibration=demo.calibration)
        yield Entry(tool, f"{form}, int8 {method}", made, size)
    made = quantize_onnx(fp32, out / f"{stem}-nncf", target="openvino", calibration=demo.calibration)
    yield Entry(tool, f"{form}, int8 by NNCF in OpenVINO", made, size, "openvino")


def exported(tool: str, form: str, model: nn.Module, demo: Demo, out: Path) -> Iterator[Entry]:
    size, inputs = count_encoder_parameters(model), demo.calibration[len(demo.calibration) // 2]
    folder = out / f"{tool}-{form}".replace(" ", "-").replace(",", "")
    fp32 = export_onnx(model.eval(), inputs, folder, tokenizer=demo.tokenizer, task=TASK, tolerance=1e-4)
    yield Entry(tool, f"{form}, fp32", fp32, size)
    yield from quantized(tool, form, fp32, demo, size, out)


def trained_students(demo: Demo, out: Path) -> Iterator[tuple[str, str, nn.Module]]:
    """Tool, what it made, the student; edgefold's first, whose seconds are everyone's."""
    recipe, begun = demo.recipe(FOLDER / "reviews.yaml", 0), time.process_time()
    student = load_student(compress(recipe, out / "edgefold").student)
    took = time.process_time() - begun
    print(f"\nedgefold's student took {took:.0f} processor seconds", flush=True)
    yield "edgefold", OWN_SHAPE, student
    trainings = PeerTrainings(demo, recipe, float(os.environ.get("SECONDS", took)), out)
    yield "edgefold", OTHER_SHAPE, trainings.own(OTHER_SHAPE)
    if "Torch-Pruning" in TRAINED:
        for form in SHAPES:
            yield "Torch-Pruning", form, trainings.pruned(form)
    if "ModelOpt" in TRAINED:
        yield "ModelOpt", "every second layer", trainings.every_second_layer()


class Filled:
    """A session of a graph that reads types of tokens as well; all of them are 0 in these texts."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        ids = feeds["input_ids"]
        return self._session.run({spec.name: feeds.get(spec.name, 0 * ids) for spec in self._session.inputs})  # type: ignore[return-value]


def opened(entry: Entry) -> Any:
    return open_session(entry.artifact, runtime=entry.runtime, threads=1)  # type: ignore[arg-type]


def accuracy(session: Session, demo: Demo) -> float:
    order = sorted(range(len(demo.test)), key=lambda i: len(demo.test[i]["input_ids"]))
    pad, right = DataCollatorWithPadding(demo.tokenizer, return_tensors="np"), 0
    for start in range(0, len(order), 32):
        batch = {k: np.asarray(v, np.int64) for k, v in pad([demo.test[i] for i in order[start : start + 32]]).items()}
        labels = batch.pop("labels")
        right += int((Filled(session).run(batch)["logits"].argmax(-1) == labels).sum())
    return right / len(order)


def print_table(entries: Sequence[Entry], right: dict[str, float]) -> None:
    """The first entry is what all are held against."""
    with ExitStack() as stack:
        sessions: Any = {entry.name: Filled(stack.enter_context(opened(entry))) for entry in entries}
        first, sizes = entries[0], [entry.artifact.vocab_size for entry in entries]
        vocab_size = min(size for size in sizes if size)
        feeds = example_inputs(first.artifact.inputs, batch=BATCH, sequence=SEQUENCE, vocab_size=vocab_size)
        reports = benchmark_together(sessions, feeds, min_duration_s=float(os.environ.get("MEASURE_S", "5")))
    print("\n| tool | what | encoder (M) | MB | accuracy | of the teacher | x |\n|---|---|---|---|---|---|---|")
    for entry in entries:
        ratio = paired_ratio(baseline=reports[first.name], candidate=reports[entry.name])
        print(
            f"| {entry.tool} | {entry.form} | {entry.encoder_parameters / 1e6:.2f} | "
            f"{entry.artifact.size_bytes / 1e6:.1f} | {right[entry.name]:.2%} | "
            f"{right[entry.name] / right[first.name]:.1%} | {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) |"
        )
    contended = any(report.contended for report in reports.values())
    print(f"contended: {'yes' if contended else 'no'}, load {os.getloadavg()[0]:.1f}")


@pytest.mark.slow
def test_peers_on_the_demo_task(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    demo = Demo(DEMO)
    inputs = demo.calibration[len(demo.calibration) // 2]
    teacher = export_onnx(demo.teacher, inputs, tmp_path / "teacher", tokenizer=demo.tokenizer, task=TASK)
    entries = [Entry("", "teacher, fp32", teacher, count_encoder_parameters(demo.teacher))]
    entries += quantized_teachers(demo, teacher, tmp_path)
    for tool, form, student in trained_students(demo, tmp_path):
        entries += exported(tool, form, student, demo, tmp_path)
    right = {}
    for entry in entries:
        with opened(entry) as session:
            right[entry.name] = accuracy(session, demo)
        print(f"{entry.name}: {right[entry.name]:.2%}", flush=True)
    print_table(entries, right)
    assert right[f"edgefold, {OWN_SHAPE}, fp32"] > 0.5
