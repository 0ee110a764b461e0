"""A task with rich outputs: MiniLM-L6 as a sentence embedder, students against every-second-layer at equal seconds.

`make bench ARGS="-k embedder"` is a quick look; SECONDS=180 SAMPLES=600 is what docs/measurements.md speaks of. SECONDS
are the processor's, the start's included; the teacher's, whose outputs are cached for all students, count for none.
STUDENTS="768|rival" chooses by parts of names. Each is trained SEEDS times, in other orders of the texts; the first is
exported.
"""

import copy
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from embedder_training import Recipe, TeacherMemory, train
from sentence_embedding import HELD_OUT, LENGTH, batches, embed, fidelity, load_embedder, load_tokenizer, texts

from edgefold.artifacts import Artifact
from edgefold.cli.demo_measurement import count_encoder_parameters
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.folding import fold
from edgefold.plans import DropLayers, Plan, Project, Select, Step
from edgefold.ratios import paired_ratio
from edgefold.runtimes import benchmark_together, example_inputs, open_session
from edgefold.student_building import build_student
from edgefold.students import Student

SECONDS = float(os.environ.get("SECONDS", "60"))
SAMPLES = int(os.environ.get("SAMPLES", "200"))
SEEDS = int(os.environ.get("SEEDS", "1"))
SEQUENCES = (128, 32)
VARIANTS = ("fp32", "int8 static", "int8 dynamic")


@dataclass(frozen=True)
class Arm:
    """A student's plan, how it starts, and its recipe."""

    steps: tuple[Step, ...]
    recipe: Recipe
    start: str = "sequential"

    @property
    def importance(self) -> str:
        return "elimination" if self.start == "sequential" else "energy"


ARMS = {
    "384 / 768 / 6 heads": Arm((Select("ffn", 768), Select("heads", 6)), Recipe(1.5e-4)),
    "every second layer (rival)": Arm((DropLayers(every=2),), Recipe(2e-4), "pca"),
    "every second layer, sequential": Arm((DropLayers(every=2),), Recipe(1.5e-4)),
    "256 / 1024 / 8 heads": Arm((Project("hidden", 256), Select("ffn", 1024), Select("heads", 8)), Recipe(1.5e-4)),
    "384 / 512 / 4 heads": Arm((Select("ffn", 512), Select("heads", 4)), Recipe(1.5e-4)),
}
CHOSEN = os.environ.get("STUDENTS", "768|rival").split("|")


@dataclass(frozen=True)
class Contestant:
    """A model in its three forms, with the fidelity of each."""

    name: str
    artifacts: dict[str, Artifact]
    fidelities: dict[str, float]


class Bench:
    """The texts, the teacher, and what all students share."""

    def __init__(self, folder: Path) -> None:
        tokenizer, every = load_tokenizer(), texts()
        self.folder, self.teacher = folder, load_embedder()
        self.held_out = batches(tokenizer, every[:HELD_OUT])
        self.calibration = batches(tokenizer, every[HELD_OUT:][:SAMPLES])
        self.inputs = self.calibration[len(self.calibration) // 2]
        self.wanted = embed(self.teacher, self.held_out)
        tokens = tokenizer(every[HELD_OUT:], truncation=True, max_length=LENGTH)["input_ids"]
        self.memory = TeacherMemory(self.teacher, tokens)

    def make(self, name: str, arm: Arm) -> Contestant:
        """Start, train and fold one student, and say how it went."""
        begun = time.process_time()
        student = build_student(
            self.teacher, Plan(arm.steps), self.inputs, self.calibration, start=arm.start, importance=arm.importance
        )
        spent = time.process_time() - begun
        assert spent < SECONDS, f"The start alone took {spent:.0f} s; give more SECONDS, or fewer SAMPLES."
        before = fidelity(self.wanted, embed(student.eval(), self.held_out))
        print(
            f"\n{name:32} encoder {count_encoder_parameters(student.module) / 1e6:5.2f} M  start {spent:4.0f} s: "
            f"{before:.3f}  after {SECONDS:.0f} s:",
            end="",
            flush=True,
        )
        trained = [self._train(copy.deepcopy(student), seed, SECONDS - spent, arm) for seed in range(SEEDS)]
        return self.export(name, fold(trained[0]))

    def _train(self, student: Student, seed: int, seconds: float, arm: Arm) -> Student:
        steps = train(student, self.memory, seconds, arm.recipe, seed)
        print(f" {fidelity(self.wanted, embed(student, self.held_out)):.3f} ({steps} steps)", end="", flush=True)
        return student

    def export(self, name: str, module: torch.nn.Module) -> Contestant:
        stem = self.folder / "".join(c if c.isalnum() else "-" for c in name)
        fp32 = export_onnx(module.eval(), self.inputs, f"{stem}-fp32")
        artifacts = {"fp32": fp32}
        for method in ("static", "dynamic"):
            artifacts[f"int8 {method}"] = quantize_onnx(
                fp32, f"{stem}-{method}", quantization=method, calibration=self.calibration[::2]
            )
        return Contestant(name, artifacts, {kind: self._fidelity(found) for kind, found in artifacts.items()})

    def _fidelity(self, artifact: Artifact) -> float:
        with open_session(artifact, threads=1) as session:
            outputs = [
                next(iter(session.run({name: value.numpy() for name, value in batch.items()}).values()))
                for batch in self.held_out
            ]
        return fidelity(self.wanted, torch.cat([torch.from_numpy(output) for output in outputs]))


def ratios(contestants: list[Contestant], sequence: int) -> dict[tuple[str, str], float]:
    """Processor time of the teacher in fp32 over that of each, batch 1, all in turns on one thread."""
    with ExitStack() as stack:
        sessions = {
            f"{contestant.name}|{kind}": stack.enter_context(open_session(artifact, threads=1))
            for contestant in contestants
            for kind, artifact in contestant.artifacts.items()
        }
        inputs = example_inputs(contestants[0].artifacts["fp32"].inputs, batch=1, sequence=sequence)
        reports = benchmark_together(sessions, inputs, min_duration_s=0.5)
    baseline = reports["teacher|fp32"]
    return {tuple(key.split("|")): paired_ratio(baseline, report).value for key, report in reports.items()}


def test_a_front_of_embedders(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    bench = Bench(tmp_path)
    contestants = [bench.export("teacher", bench.teacher)]
    chosen = {name: arm for name, arm in ARMS.items() if any(part in name for part in CHOSEN)}
    contestants += [bench.make(name, arm) for name, arm in chosen.items()]
    measured = {sequence: ratios(contestants, sequence) for sequence in SEQUENCES}
    print(f"\n\n| {'model':32} | form         | fidelity | " + " | ".join(f"x at {s:3}" for s in SEQUENCES) + " |")
    for contestant in contestants:
        for kind in VARIANTS:
            speeds = " | ".join(f"{measured[s][contestant.name, kind]:8.2f}" for s in SEQUENCES)
            print(f"| {contestant.name:32} | {kind:12} | {contestant.fidelities[kind]:8.3f} | {speeds} |")
    assert all(contestant.fidelities["fp32"] > 0.5 for contestant in contestants)
