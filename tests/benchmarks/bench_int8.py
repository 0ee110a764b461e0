"""int8 of the demo's teacher and student: ONNX Runtime's and OpenVINO's in turns, and what the int8 student spends.

    make demo && make bench ARGS="-k int8"      EDGEFOLD_DEMO=out/demo

Batch 1 of 128 tokens, one thread, processor time; ratios are paired. Accuracy on the 2,000 test texts, each artifact in
the runtime in which it is timed. Neighbours who share the core's cache and execution units lengthen short runs of int8
more than those of fp32 (the student's 2.0 times became 1.6 under a load of 6 on two cores), so the goals are held on a
machine of its own alone.
"""

import json
import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from demo_teacher import Demo

from edgefold.artifacts import Artifact, load_artifact
from edgefold.cli.demo_measurement import BATCH, SEQUENCE
from edgefold.exporters import quantize_onnx
from edgefold.openvino_modules import can_quantize
from edgefold.ratios import paired_ratio
from edgefold.reports import Report
from edgefold.runtimes import Session, benchmark_together, example_inputs, open_session

DEMO = Path(os.environ.get("EDGEFOLD_DEMO", "out/demo"))
SECONDS = float(os.environ.get("EDGEFOLD_INT8_SECONDS", "10"))
GOALS = {"student": 1.8, "teacher": 2.2}
"""Times as fast as the same model in fp32, in the faster runtime of each."""
MOST_LOST = 0.005
RUNS = 200

pytestmark = pytest.mark.skipif(not (DEMO / "onnx").is_dir(), reason=f"needs {DEMO}, which `make demo` writes")


def open_all(name: str, demo: Demo, folder: Path, stack: ExitStack) -> dict[str, Session]:
    """Every precision in every runtime that is made for it."""
    fp32 = load_artifact(DEMO / "onnx" / f"{name}-fp32")
    artifacts: dict[str, tuple[str, Artifact]] = {"ONNX Runtime fp32": ("onnxruntime", fp32)}
    for method in ("static", "dynamic"):
        made = quantize_onnx(fp32, folder / f"{name}-{method}", quantization=method, calibration=demo.calibration)
        artifacts[f"ONNX Runtime int8 {method}"] = ("onnxruntime", made)
    artifacts["OpenVINO fp32"] = ("openvino", fp32)
    made = quantize_onnx(fp32, folder / f"{name}-nncf", target="openvino", calibration=demo.calibration)
    artifacts["OpenVINO int8 (NNCF)"] = ("openvino", made)
    return {
        label: stack.enter_context(open_session(artifact, runtime=runtime, threads=1))
        for label, (runtime, artifact) in artifacts.items()
    }


def accuracy(session: Session, demo: Demo) -> float:
    order = sorted(range(len(demo.test)), key=lambda i: len(demo.test[i]["input_ids"]))
    correct = 0
    for start in range(0, len(order), 32):
        rows = [demo.test[i] for i in order[start : start + 32]]
        batch = demo.tokenizer.pad([{k: v for k, v in r.items() if k != "labels"} for r in rows], return_tensors="np")
        logits = session.run({spec.name: batch[spec.name].astype(np.int64) for spec in session.inputs})["logits"]
        correct += int((logits.argmax(-1) == [row["labels"] for row in rows]).sum())
    return correct / len(order)


@pytest.mark.skipif(not can_quantize(), reason="needs edgefold[openvino-int8]")
@pytest.mark.parametrize("name", list(GOALS))
def test_int8_in_both_runtimes(name: str, tmp_path: Path) -> None:
    demo = Demo(DEMO)
    with ExitStack() as stack:
        sessions = open_all(name, demo, tmp_path, stack)
        feeds = example_inputs(next(iter(sessions.values())).inputs, batch=BATCH, sequence=SEQUENCE, vocab_size=30522)
        reports = benchmark_together(sessions, feeds, min_duration_s=SECONDS)
        right = {label: accuracy(session, demo) for label, session in sessions.items()}
    print(f"\n| {name} | CPU p50 ms | of its runtime's fp32 | of the faster fp32 | accuracy |\n|---|---|---|---|---|")
    plain = [reports[label] for label in reports if label.endswith("fp32")]
    fastest = min(plain, key=cpu_time)
    found = {}
    for label, report in reports.items():
        own = paired_ratio(baseline=reports[f"{label.split(' int8')[0].removesuffix(' fp32')} fp32"], candidate=report)
        best = found[label] = paired_ratio(baseline=fastest, candidate=report)
        print(
            f"| {label} | {cpu_time(report) * 1e3:.2f} | {own.value:.2f} x | {best.value:.2f} x | {right[label]:.2%} |"
        )
    good = [label for label in found if "int8" in label and right[label] >= right["ONNX Runtime fp32"] - MOST_LOST]
    contended = any(report.contended for report in reports.values())
    print(f"contended: {'yes' if contended else 'no'}, load {os.getloadavg()[0]:.1f}")
    assert good
    assert contended or max(found[label].value for label in good) >= GOALS[name]


def cpu_time(report: Report) -> float:
    assert report.cpu_p50_s is not None
    return report.cpu_p50_s


def test_what_the_int8_student_spends(tmp_path: Path) -> None:
    """ONNX Runtime's own profile, one row for each kind of operator; its clock is the wall's."""
    for name in ("student-fp32", "student-int8-static", "student-int8-dynamic"):
        artifact = load_artifact(DEMO / "onnx" / name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.enable_profiling = 1, True
        options.profile_file_prefix = str(tmp_path / name)
        session = onnxruntime.InferenceSession(artifact.model_path, options, providers=["CPUExecutionProvider"])
        feeds = example_inputs(artifact.inputs, batch=BATCH, sequence=SEQUENCE, vocab_size=artifact.vocab_size)
        for _ in range(RUNS):
            session.run(None, feeds)
        spent, nodes = read_profile(Path(session.end_profiling()))
        total = sum(spent.values())
        print(f"\n| {name} | nodes | µs a run | share |\n|---|---|---|---|")
        for kind, microseconds in spent.most_common(10):
            print(f"| {kind} | {nodes[kind]} | {microseconds:.0f} | {microseconds / total:.1%} |")
        print(f"| all {len(spent)} kinds | {sum(nodes.values())} | {total:.0f} | |")
        assert sum(nodes.values()) > 0


def read_profile(path: Path) -> tuple[Counter[str], Counter[str]]:
    """Microseconds of one run in each kind of operator, warm-up left out, and how many of it there are."""
    spent: dict[str, dict[str, list[int]]] = {}
    for event in json.loads(path.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent.setdefault(event["args"]["op_name"], {}).setdefault(event["name"], []).append(event["dur"])
    times = Counter[str]()
    for kind, nodes in spent.items():
        times[kind] = sum(float(np.median(durations[RUNS // 10 :])) for durations in nodes.values())  # type: ignore[assignment]
    return times, Counter({kind: len(nodes) for kind, nodes in spent.items()})
