"""int8 by measuring: candidates quantized from one fp32 export, the fastest inside the quality gate handed out.

Half of the calibration batches find the scales, the others judge (one that is alone does both): the share of decisions
(argmax of what is called logits) that stay as in fp32, or the variance that outputs which decide nothing keep. Times
are taken in turns on one thread, each in the runtime that it is for.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from edgefold.artifacts import Artifact
from edgefold.cli.candidates import Candidate, choose_fastest
from edgefold.errors import GateError, InputError
from edgefold.exporters import measure_sensitivity, most_sensitive, quantize_onnx
from edgefold.exporters.parity import open_graph
from edgefold.exporters.sensitivity import LayerSensitivity
from edgefold.exporters.targets import find_target
from edgefold.recipes.stages import VALUED
from edgefold.runtimes import benchmark_together, open_session, verify_outputs
from edgefold.runtimes.sessions import USUAL, usual_runtime
from edgefold.runtimes.verification import OutputAgreement, Run

Batch = dict[str, Tensor]
LEAST = {"same argmax": 0.95, "variance kept": 0.96}
"""Of what an int8 artifact keeps of fp32's outputs."""
CLASSIFIED = ("text-classification", "image-classification", "tensor-classification", "recommendation")
"""Tasks, as a student's lineage names them, whose outputs decide by the largest, however they are called."""
FP32 = "fp32"
SECONDS = 0.5
"""For which each candidate is timed."""


def export_best_int8(
    export_fp32: Callable[[Path], Artifact],
    batches: Sequence[Batch],
    out: Path,
    *,
    target: str,
    others: Sequence[str] = (),
    opset: int | None = None,
    runs_here: bool,
    overwrite: bool,
) -> tuple[Artifact, list[LayerSensitivity]]:
    """Quantize in several ways, judge and time each, and write the chosen one with all that was tried in its lineage.

    Args:
        export_fp32: writes the fp32 artifact into the folder that it is given.
        others: further targets, one static candidate each; the target of the artifact may be one of them.
        opset: as of `quantize_onnx`.
        runs_here: whether the target is this machine, so that times mean something; else the order decides: static,
            static without the most sensitive layers, dynamic.

    Raises:
        GateError: no candidate keeps enough of fp32's outputs.
    """
    calibration, judged = (batches[::2], batches[1::2]) if len(batches) > 1 else (batches, batches)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fp32 = export_fp32(folder / "fp32")
        layers = measure_sensitivity(fp32.model_path, calibration, target)
        candidates = _list_candidates(target, others, opset, calibration, most_sensitive(layers))
        made = _quantize(fp32, candidates, folder)
        kind, qualities = _judge(fp32, made, judged)
        seconds = _time({FP32: fp32, **made}, judged) if runs_here else dict.fromkeys((FP32, *made))
        tried = [Candidate(name, qualities[name], seconds[name]) for name in made]
        chosen = choose_fastest(tried, LEAST[kind])
        facts = [
            {
                "name": c.name,
                "runtime": usual_runtime(made[c.name]),
                kind: c.quality,
                "seconds": c.seconds,
                "size_bytes": made[c.name].size_bytes,
            }
            for c in tried
        ]
        if chosen.quality < LEAST[kind]:
            raise GateError(
                f"No int8 candidate keeps {LEAST[kind]:.0%} of fp32's outputs ({kind}): "
                f"{', '.join(f'{c.name} {c.quality:.1%}' for c in tried)}; nothing was written. Use fp16 or fp32."
            )
        lineage = {
            "int8": {
                "gate": {kind: LEAST[kind]},
                "chosen": chosen.name,
                "candidates": facts,
                FP32: {"seconds": seconds[FP32], "size_bytes": fp32.size_bytes},
            }
        }
        artifact = quantize_onnx(fp32, out, lineage=lineage, overwrite=overwrite, **candidates[chosen.name])
    return artifact, layers


def _list_candidates(
    target: str, others: Sequence[str], opset: int | None, calibration: Sequence[Batch], left_out: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Name -> the options of `quantize_onnx`."""
    static: dict[str, Any] = {"quantization": "static", "calibration": calibration, "opset": opset}
    candidates = {"static": {"target": target, **static}}
    if left_out:
        candidates[f"static, {len(left_out)} layer(s) in fp32"] = {"target": target, **static, "left_out": left_out}
    if not (find_target(target).is_tensorrt or find_target(target).is_openvino):
        candidates["dynamic"] = {"target": target, "quantization": "dynamic", "opset": opset}
    return candidates | {f"static for {other}": {"target": other, **static} for other in others}


def _quantize(fp32: Artifact, candidates: dict[str, dict[str, Any]], folder: Path) -> dict[str, Artifact]:
    """Those that can be made: without a MatMul there is no dynamic int8."""
    made = {}
    for index, (name, options) in enumerate(candidates.items()):
        try:
            made[name] = quantize_onnx(fp32, folder / str(index), **options)
        except InputError:
            if name == "static":
                raise
    return made


def _judge(fp32: Artifact, made: dict[str, Artifact], batches: Sequence[Batch]) -> tuple[str, dict[str, float]]:
    """What is looked at, and how much of it each candidate keeps in its worst output."""
    arrays = [{name: value.numpy() for name, value in batch.items()} for batch in batches]
    reference = _as_function(fp32)
    found: dict[str, dict[str, OutputAgreement]] = {}
    for name, artifact in made.items():
        with _opened(artifact) as run:
            found[name] = verify_outputs(run, reference, arrays).outputs
    first, task = next(iter(found.values())), fp32.lineage.get("task")
    decides = task not in VALUED and (task in CLASSIFIED or any("logits" in name for name in first))
    named = [name for name in first if "logits" in name] or list(first)
    deciding = [name for name in named if decides and first[name].width > 1]
    if deciding:
        return "same argmax", {n: min(o[name].argmax_agreement for name in deciding) for n, o in found.items()}
    return "variance kept", {n: 1 - max(output.missed for output in outputs.values()) for n, outputs in found.items()}


@contextmanager
def _opened(artifact: Artifact) -> Iterator[Run]:
    """In the runtime that it is for."""
    if usual_runtime(artifact) == USUAL:
        yield _as_function(artifact)
        return
    with open_session(artifact) as session:
        names = {spec.name for spec in session.inputs}
        yield lambda batch: session.run({name: value for name, value in batch.items() if name in names})


def _as_function(artifact: Artifact) -> Run:
    """What the graph says, whatever this processor's own 8-bit products saturate at."""
    session = open_graph(artifact.model_path)
    names = [value.name for value in session.get_outputs()]
    wanted = [value.name for value in session.get_inputs()]
    return lambda batch: dict(zip(names, session.run(names, {name: batch[name] for name in wanted}), strict=True))


def _time(made: dict[str, Artifact], batches: Sequence[Batch]) -> dict[str, float | None]:
    """Processor time of one run on the first row of the batch in the middle, in turns; seconds."""
    middle = batches[len(batches) // 2]
    with ExitStack() as stack:
        sessions = {name: stack.enter_context(open_session(artifact, threads=1)) for name, artifact in made.items()}
        names = {spec.name for spec in next(iter(sessions.values())).inputs}
        row = {name: value[:1].numpy() for name, value in middle.items() if name in names}
        reports = benchmark_together(sessions, row, min_duration_s=SECONDS)
    return {name: report.cpu_p50_s for name, report in reports.items()}
