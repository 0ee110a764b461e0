"""A teacher and its student on a GPU by every runtime that is there: one table, measured in turns, one row each.

    DEMO=out/demo pytest tests/benchmarks/bench_gpu.py -o python_files='bench_*.py' -s
    MODEL=bert-base pytest ...          random weights at BERT-base's sizes (or minilm's), and at half; no DEMO needed
    DEVICE=cpu MODEL=tiny pytest ...    the same plumbing without a GPU

DEMO is a folder of `edgefold demo`: teacher, student, data. What is exported and built is kept in EXPORTS
(out/gpu-bench) and used again. BATCHES, SEQUENCE, MEASURE_S (of each), MIN_RUNS, POWER_S (0 for none), LIMIT_S (after
which nothing slow is begun), ONLY and SKIP (variants, by parts of their names) change the procedure. OUT_DIR gets the
table as JSON lines. x is the paired ratio of host times to the teacher in torch, eager, fp32, without TF32. Host times
are from numpy to numpy. A variant that fails is a row that says so.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

from edgefold.artifacts import MANIFEST, Artifact, load_artifact, write_artifact
from edgefold.checkpoints import load_student
from edgefold.exporters import build_engine, export_onnx, quantize_onnx
from edgefold.exporters.half_precision import halve_model
from edgefold.nvidia_driver import read_gpu
from edgefold.ratios import paired_ratio
from edgefold.reports import Power, Report
from edgefold.runtimes import benchmark_together, open_session, open_torch_baseline
from edgefold.runtimes.gpu_power import measure_gpu_power
from edgefold.runtimes.sessions import Session

ENV = os.environ.get
DEVICE = ENV("DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
DEMO = Path(ENV("DEMO", "out/demo"))
MODEL = ENV("MODEL") or ("" if (DEMO / "teacher").is_dir() else "bert-base" if DEVICE == "cuda" else "tiny")
EXPORTS = Path(ENV("EXPORTS", "out/gpu-bench"))
BATCHES = [int(size) for size in ENV("BATCHES", "32,1,8" if DEVICE == "cuda" else "2,1").split(",")]
SEQUENCE = int(ENV("SEQUENCE", "128" if MODEL != "tiny" else "16"))
MEASURE_S, MIN_RUNS = float(ENV("MEASURE_S", "0.25")), int(ENV("MIN_RUNS", "20"))
POWER_S, LIMIT_S = float(ENV("POWER_S", "0.5")), float(ENV("LIMIT_S", "130"))
ONLY, SKIP = ([part for part in ENV(name, "").split(",") if part] for name in ("ONLY", "SKIP"))
BLOCK_S = 0.02
TENSORRT, RTX = ("tensorrt", "tensorrt_bindings"), ("tensorrt_rtx", "tensorrt_rtx_bindings")
"""Modules of each; the bindings stand alone where the package that renames them is left out."""
SIZES = {
    "bert-base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
}
BASELINE = "torch eager fp32"
COLUMNS = ("model", "batch", "variant", "N", "host p50 ms", "gpu p50 ms", "x teacher torch fp32 (95 %)", "samples/s")
COLUMNS += ("W", "mJ/sequence", "mJ above idle", "max error", "same class")
STARTED = time.perf_counter()


@dataclass
class Subject:
    """One of the two models, with its exports."""

    name: str
    module: torch.nn.Module
    folder: Path
    made: dict[str, Any] = field(default_factory=dict)

    def onnx(self, precision: str) -> Artifact:
        """fp32 is exported once; the others are made of it."""
        return self._once(f"onnx-{precision}", lambda out: MAKE[precision](self, out))

    def engine(self, precision: str) -> Artifact:
        """Tuned for one sequence, and for the largest batch; those between run on kernels of the largest."""
        length, largest = (SEQUENCE,) * 3, max(BATCHES)
        profiles = [{"batch": (1, 1, 1), "sequence": length}, {"batch": (2, largest, largest), "sequence": length}]
        cache = self.folder / "cache"
        return self._once(
            f"engine-{precision}", lambda out: build_engine(self.onnx(precision), out, profiles=profiles, cache=cache)
        )

    def _once(self, name: str, make: Callable[[Path], Artifact]) -> Artifact:
        """What failed once is not tried again."""
        if name not in self.made:
            out = self.folder / name
            try:
                begun = time.perf_counter()
                self.made[name] = load_artifact(out) if (out / MANIFEST).is_file() else make(out)
                note(f"{self.name} {name}: {time.perf_counter() - begun:.1f} s")
            except Exception as error:
                self.made[name] = error
        if isinstance(self.made[name], Exception):
            raise self.made[name]
        found: Artifact = self.made[name]
        return found


def export_fp32(subject: Subject, out: Path) -> Artifact:
    example = {name: torch.from_numpy(value[:2]) for name, value in REAL.items()}
    return export_onnx(subject.module, example, out, target="tensorrt")


def export_fp16(subject: Subject, out: Path) -> Artifact:
    source = subject.onnx("fp32")
    out.mkdir(parents=True)
    for name in source.model_files:
        (out / name).write_bytes((source.folder / name).read_bytes())
    halved = halve_model(out / source.model_file)
    facts: Any = {"format": "onnx", "target": "tensorrt", "model_file": source.model_file}
    return write_artifact(out, precision="fp16", inputs=halved.inputs, outputs=halved.outputs, **facts)


def export_int8(subject: Subject, out: Path) -> Artifact:
    rows = {name: torch.from_numpy(value) for name, value in REAL.items()}
    batches = [{name: value[start : start + 8] for name, value in rows.items()} for start in range(0, 64, 8)]
    return quantize_onnx(subject.onnx("fp32"), out, target="tensorrt", calibration=batches)


MAKE = {"fp32": export_fp32, "fp16": export_fp16, "int8": export_int8}


def open_torch(subject: Subject, dtype: Any, mode: str | None = None) -> Session:
    source = subject.onnx("fp32")
    compiling = {"compiled": mode is not None, "mode": mode or "default"}
    return open_torch_baseline(subject.module, source.inputs, source.outputs, device=DEVICE, dtype=dtype, **compiling)


def open_onnx(subject: Subject, precision: str, **settings: Any) -> Session:
    return open_session(subject.onnx(precision), device=DEVICE, **settings)


def open_engine(subject: Subject, precision: str, cuda_graph: bool = False) -> Session:
    with environment("EDGEFOLD_TENSORRT", find_module(TENSORRT)):
        return open_session(subject.engine(precision), device=DEVICE, runtime="tensorrt", cuda_graph=cuda_graph)


def open_rtx(subject: Subject) -> Session:
    """Its builder is chosen by the environment, which the build's own process inherits."""
    with environment("EDGEFOLD_TENSORRT", find_module(RTX)):
        engine = build_engine(subject.onnx("fp16"), subject.folder / "engine-rtx", overwrite=True)
        return open_session(engine, device=DEVICE, runtime="tensorrt")


def find_module(names: tuple[str, ...]) -> str:
    found = [name for name in names if find_spec(name)]
    if not found:
        raise ImportError(f"{names[0]} is not installed")
    return found[0]


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


@dataclass(frozen=True)
class Variant:
    """One way to run a model."""

    name: str
    open: Callable[[Subject], Session]
    slow: bool = False
    """Whether it compiles or builds for long, which is not begun after LIMIT_S."""


def variants() -> list[Variant]:
    found = [Variant(BASELINE, lambda s: open_torch(s, "fp32"))]
    if DEVICE == "cpu":
        return found + [
            Variant(f"ONNX Runtime CPU {precision}", partial(open_onnx, precision=precision))
            for precision in ("fp32", "fp16", "int8")
        ]
    bound: dict[str, Any] = {"io_binding": True}
    found += [
        Variant("torch eager fp16", lambda s: open_torch(s, "fp16")),
        Variant("torch eager bf16", lambda s: open_torch(s, "bf16")),
        Variant("ONNX Runtime CUDA fp32", lambda s: open_onnx(s, "fp32")),
        Variant("ONNX Runtime CUDA fp16", lambda s: open_onnx(s, "fp16")),
        Variant("ONNX Runtime CUDA fp32, IO binding", lambda s: open_onnx(s, "fp32", **bound)),
        Variant("ONNX Runtime CUDA fp16, IO binding", lambda s: open_onnx(s, "fp16", **bound)),
        Variant("ONNX Runtime CUDA fp16, IO binding, graph", lambda s: open_onnx(s, "fp16", **bound, cuda_graph=True)),
        Variant("ONNX Runtime TensorRT-RTX fp16", lambda s: open_onnx(s, "fp16", provider="tensorrt-rtx")),
    ]
    found += [
        Variant(f"TensorRT {precision}{', graph' if graph else ''}", partial(open_engine, **wanted), slow=True)
        for precision in ("fp16", "int8", "fp32")
        for graph in (False, True)
        for wanted in ({"precision": precision, "cuda_graph": graph},)
    ]
    found += [
        Variant("TensorRT-RTX fp16", open_rtx, slow=True),
        Variant("torch compiled fp16", lambda s: open_torch(s, "fp16", "default"), slow=True),
        Variant("torch compiled fp16, graph", lambda s: open_torch(s, "fp16", "reduce-overhead"), slow=True),
        Variant("ONNX Runtime TensorRT fp16", lambda s: open_onnx(s, "fp16", provider="tensorrt"), slow=True),
    ]
    return [v for v in found if v.name == BASELINE or is_wanted(v.name)]


def is_wanted(name: str) -> bool:
    return (not ONLY or any(part in name for part in ONLY)) and not any(part in name for part in SKIP)


@dataclass
class Row:
    model: str
    batch: int | str
    variant: str
    failed: str | None = None
    runs: int = 0
    host_p50_ms: float = 0.0
    gpu_p50_ms: float | None = None
    ratio: tuple[float, float, float] = (1.0, 1.0, 1.0)
    samples_per_s: float = 0.0
    watts: float | None = None
    idle_watts: float | None = None
    mj_per_sequence: float | None = None
    mj_above_idle: float | None = None
    held_back_by: tuple[str, ...] = ()
    max_error: float = 0.0
    same_class: float = 1.0

    def __str__(self) -> str:
        if self.failed:
            return f"| {self.model} | {self.batch} | {self.variant} | failed: {self.failed} |{' |' * 9}"
        value, low, high = self.ratio
        held = f" ({', '.join(self.held_back_by)})" if self.held_back_by else ""
        cells = (
            *(self.model, self.batch, self.variant, self.runs, f"{self.host_p50_ms:.3f}", shown(self.gpu_p50_ms, 3)),
            *(f"{value:.2f} ({low:.2f} to {high:.2f})", f"{self.samples_per_s:.0f}", shown(self.watts, 0) + held),
            *(shown(self.mj_per_sequence, 2), shown(self.mj_above_idle, 2), f"{self.max_error:.1e}"),
            f"{self.same_class:.1%}",
        )
        return f"| {' | '.join(map(str, cells))} |"


def shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def note(text: str) -> None:
    """Progress, apart from the table."""
    print(f"[{time.perf_counter() - STARTED:6.1f} s] {text}", file=sys.stderr, flush=True)


def say(rows: list[Row], row: Row) -> None:
    rows.append(row)
    print(row, flush=True)
    if folder := ENV("OUT_DIR"):
        with Path(folder, "bench_gpu.jsonl").open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def first_line(error: BaseException) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text.replace("|", "/")[:300]


def read_inputs() -> dict[str, np.ndarray]:
    """64 sequences of full length: reviews one after the other, or random ids."""
    if MODEL:
        ids = np.random.default_rng(0).integers(1000 if MODEL != "tiny" else 1, VOCABULARY, (64, SEQUENCE))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    lines = (DEMO / "data" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    joined = [" ".join(texts[(row * 7 + place) % len(texts)] for place in range(7)) for row in range(64)]
    tokenizer = AutoTokenizer.from_pretrained(DEMO / "teacher", local_files_only=True)
    found = tokenizer(joined, padding="max_length", truncation=True, max_length=SEQUENCE, return_tensors="np")
    return {name: found[name].astype(np.int64) for name in ("input_ids", "attention_mask")}


VOCABULARY = 30522 if MODEL != "tiny" else 100
REAL = read_inputs()


def open_subjects() -> list[Subject]:
    if MODEL:
        sizes = {"vocab_size": VOCABULARY, **SIZES[MODEL]}
        kept = ("vocab_size", "num_hidden_layers")
        halves = {name: value if name in kept else value // 2 for name, value in sizes.items()}
        torch.manual_seed(0)
        modules = [BertForSequenceClassification(BertConfig(**fields)).eval() for fields in (sizes, halves)]
        names = [f"{MODEL}, random", f"{MODEL} at half width, random"]
        return [
            Subject(name, module, EXPORTS / f"{MODEL}-{number}-{SEQUENCE}")
            for number, (name, module) in enumerate(zip(names, modules, strict=True))
        ]
    teacher = AutoModelForSequenceClassification.from_pretrained(
        DEMO / "teacher", local_files_only=True, dtype=torch.float32
    ).eval()
    modules = [teacher, load_student(DEMO / "student").float()]
    marks = [
        hashlib.sha256((DEMO / name / "model.safetensors").read_bytes()).hexdigest()[:12]
        for name in ("teacher", "student")
    ]
    return [
        Subject(f"{name} {sum(p.numel() for p in module.parameters()) / 1e6:.1f} M", module, EXPORTS / f"{name}-{mark}")
        for name, module, mark in zip(("teacher", "student"), modules, marks, strict=True)
    ]


def compare(session: Session, reference: Session, batch: int) -> tuple[float, float]:
    """Largest absolute error, and the share of equal classes, on real inputs; once all is compiled and captured."""
    for _ in range(3):
        session.run({name: value[:batch] for name, value in REAL.items()})
    rows = min(64, max(16, 2 * batch)) // batch * batch
    errors, same = [], []
    for start in range(0, rows, batch):
        feeds = {name: value[start : start + batch] for name, value in REAL.items()}
        found, wanted = (s.run(feeds)["logits"].astype(np.float64) for s in (session, reference))
        errors.append(np.abs(found - wanted).max())
        same.append(found.argmax(-1) == wanted.argmax(-1))
    return float(np.max(errors)), float(np.mean(np.concatenate(same)))


def open_all(subjects: list[Subject], stack: ExitStack, rows: list[Row]) -> dict[tuple[str, str], Session]:
    """Every variant of every model that opens; the others are rows that say why not."""
    opened = {}
    for variant in variants():
        failures: dict[str, list[str]] = {}
        for subject in subjects:
            try:
                if variant.slow and time.perf_counter() - STARTED > LIMIT_S:
                    raise TimeoutError(f"not begun after {LIMIT_S:.0f} s")
                begun = time.perf_counter()
                session = opened[subject.name, variant.name] = stack.enter_context(variant.open(subject))
                nodes = session.settings().get("nodes", "")
                note(f"{subject.name}, {variant.name}: open after {time.perf_counter() - begun:.1f} s {nodes}")
            except Exception as error:
                failures.setdefault(first_line(error), []).append(subject.name)
        for told, names in failures.items():
            say(rows, Row(" and ".join(names), "all", variant.name, told))
    return opened


def prepare(
    opened: Mapping[tuple[str, str], Session], batch: int, rows: list[Row]
) -> dict[tuple[str, str], tuple[float, float]]:
    """Compile, capture and compare, before anything is timed: the parity of those that run."""
    slow = {variant.name for variant in variants() if variant.slow}
    parity = {}
    for (model, name), session in opened.items():
        try:
            if name in slow and time.perf_counter() - STARTED > LIMIT_S:
                raise TimeoutError(f"not begun after {LIMIT_S:.0f} s")
            begun = time.perf_counter()
            parity[model, name] = compare(session, opened[model, BASELINE], batch)
            if (took := time.perf_counter() - begun) > 2:
                note(f"{model}, {name}, batch {batch}: first runs took {took:.1f} s")
        except Exception as error:
            say(rows, Row(model, batch, name, first_line(error)))
    return parity


def make_row(report: Report, power: Power | None, baseline: Report, parity: tuple[float, float]) -> Row:
    model, name = report.label.split(" / ")
    ratio = paired_ratio(baseline=baseline, candidate=report, basis="wall")
    batch = report.batch_size
    return Row(
        model=model,
        batch=batch,
        variant=name,
        runs=len(report.times_s),
        host_p50_ms=report.p50_s * 1e3,
        gpu_p50_ms=None if report.gpu_p50_s is None else report.gpu_p50_s * 1e3,
        ratio=(ratio.value, ratio.low, ratio.high),
        samples_per_s=report.throughput,
        watts=power and power.mean_load_w,
        idle_watts=power and power.mean_idle_w,
        mj_per_sequence=power and power.gross_j / batch * 1e3,
        mj_above_idle=power and power.net_j / batch * 1e3,
        held_back_by=power.held_back_by if power else (),
        max_error=parity[0],
        same_class=parity[1],
    )


def measure_batch(opened: Mapping[tuple[str, str], Session], batch: int, rows: list[Row]) -> None:
    parity = prepare(opened, batch, rows)
    feeds = {name: value[:batch] for name, value in REAL.items()}
    sessions = {f"{model} / {name}": opened[model, name] for model, name in parity}
    if not any(label.endswith(f"/ {BASELINE}") for label in sessions):
        note(f"batch {batch}: nothing to compare with, as {BASELINE} does not run")
        return
    procedure: Any = {"warmup_s": 0.05, "min_duration_s": MEASURE_S, "min_runs": MIN_RUNS, "block_s": BLOCK_S}
    note(f"batch {batch}: measuring {len(sessions)} in turns")
    reports = benchmark_together(sessions, feeds, **procedure)
    runs = {label: partial(session.run, feeds) for label, session in sessions.items()}
    powers = measure_gpu_power(runs, POWER_S) if POWER_S and DEVICE == "cuda" else {}
    baseline = next(report for label, report in reports.items() if label.endswith(f"/ {BASELINE}"))
    for label, report in reports.items():
        model, name = label.split(" / ")
        say(rows, make_row(report, powers.get(label), baseline, parity[model, name]))
    if state := baseline.before.gpus:
        note(f"GPU before: {state[0]}")


def test_gpu() -> None:
    torch.set_num_threads(1 if DEVICE == "cpu" else torch.get_num_threads())
    rows: list[Row] = []
    with torch.inference_mode(False):
        subjects = open_subjects()
    gpu = read_gpu() if DEVICE == "cuda" else None
    where = f"{gpu or 'the CPU'}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    print(f"\n{SEQUENCE} tokens on {where}")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    with ExitStack() as stack:
        opened = open_all(subjects, stack, rows)
        for batch in BATCHES:
            measure_batch(opened, batch, rows)
    note("done")
    assert any(not row.failed for row in rows), "nothing ran"
