"""What each term of the loss, each penalty, gates and masks cost in a training step, against plain fine-tuning.

A student of MiniLM's size (6 layers of 384) of a teacher twice as wide, batch 32 x 64 tokens, AdamW, dropout on, eager
attention, one thread, processor time. Each variant and plain fine-tuning of the same student take steps in turn; a row
is the median of the pairs' ratios. The teacher's outputs come from the cache, as they do from the second epoch on; its
own pass has a row for itself. What the nuclear norm costs is in bench_penalties.
"""

import copy
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification, TrainingArguments

from edgefold.distillation import Contrast, Objective
from edgefold.gates.settings import Gates
from edgefold.penalties import L1, L2, ActivationL1, ElasticNet, GroupLasso, Orthogonality
from edgefold.plans import Plan, Project, Select, Step, Unstructured
from edgefold.student_building import build_student
from edgefold.students import Student
from edgefold.teachers.cache import EXAMPLE_IDS
from edgefold.training import CompressionTrainer

pytestmark = pytest.mark.filterwarnings("ignore")
PAIRS = int(os.environ.get("EDGEFOLD_PAIRS", "7"))
BATCH, SEQUENCE = 32, 64
SIZES: tuple[Step, ...] = (Project("hidden", 384), Select("ffn", 1536), Select("heads", 6))
ZERO = {"task": 0.0, "logits": 0.0, "hidden": 0.0}


@dataclass(frozen=True)
class Variant:
    """What is added to the task's own loss."""

    terms: dict[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    gates: Gates | None = None
    mode: str = "weights"

    @property
    def objective(self) -> Objective:
        return Objective(**{**ZERO, "task": 1.0, **self.terms})


VARIANTS = {
    "logits": Variant({"logits": 1.0}),
    "hidden": Variant({"hidden": 1.0}),
    "attention": Variant({"attention": 1.0}),
    "relations": Variant({"relations": 1.0}),
    "embeddings": Variant({"embeddings": 1.0}),
    "cosine": Variant({"cosine": 1.0}),
    "contrastive, teacher": Variant({"contrastive": 1.0}),
    "contrastive, dropout": Variant({"contrastive": 1.0, "contrast": Contrast("dropout")}),
    "l1": Variant({"penalties": (L1(1e-4),)}),
    "l1, as a term": Variant({"penalties": (L1(1e-4, proximal=False),)}),
    "l2": Variant({"penalties": (L2(1e-4),)}),
    "elastic net": Variant({"penalties": (ElasticNet(1e-4),)}),
    "group lasso of neurons": Variant({"penalties": (GroupLasso(1e-4, "ffn"),)}),
    "activation l1": Variant({"penalties": (ActivationL1(1e-4, "*.intermediate"),)}),
    "orthogonality, mode all": Variant({"penalties": (Orthogonality(1e-2),)}, mode="all"),
    "masks of 80 %": Variant(steps=(Unstructured(0.8, "encoder", end=0.0),)),
    "gates on ffn and heads": Variant(gates=Gates(["ffn", "heads"], keep=0.4)),
    "gates, mode all": Variant(gates=Gates(["ffn", "heads"], keep=0.4), mode="all"),
}


def batch_of(rows: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 30522, (rows, SEQUENCE), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 6}
    return BertForSequenceClassification(BertConfig(**sizes, attn_implementation="eager")).eval()


def build(teacher: nn.Module, variant: Variant) -> Student:
    plan = Plan([*SIZES, *variant.steps])
    inputs = batch_of(2, 0)
    return build_student(teacher, plan, inputs, [inputs], variant.mode, start="pca", gates=variant.gates)


def stepper(student: Student, teacher: nn.Module, objective: Objective) -> Callable[[], float]:
    """A function that takes one training step, as the Trainer does, and returns its processor seconds."""
    arguments = TrainingArguments(
        tempfile.gettempdir(), use_cpu=True, max_steps=1000, report_to=[], learning_rate=1e-5, save_strategy="no"
    )
    rows = [{name: value[0] for name, value in batch_of(1, 0).items()}] * BATCH
    trainer = CompressionTrainer(
        student.train(), teacher=teacher, objective=objective, args=arguments, train_dataset=rows, teacher_cache_gib=1.0
    )
    trainer.current_gradient_accumulation_steps = 1
    optimizer = trainer.create_optimizer()
    trainer.state.max_steps = 1000
    batch = {**batch_of(BATCH, 1), "labels": torch.arange(BATCH) % 2, EXAMPLE_IDS: torch.arange(BATCH)}
    if not objective.needs_teacher:
        del batch[EXAMPLE_IDS]

    def step() -> float:
        begun = time.process_time()
        trainer.training_step(student, dict(batch))
        optimizer.step()
        optimizer.zero_grad()
        student.masks.enforce(student.module)
        trainer.state.global_step += 1
        if student.gates is not None:
            student.gates.advance(trainer.state.global_step, 1000)
        return time.process_time() - begun

    return step


def paired(name: str, variant: Callable[[], float], plain: Callable[[], float]) -> float:
    """The median ratio of steps in turn, the first of each left out; printed."""
    pairs = [(variant(), plain()) for _ in range(PAIRS + 1)][1:]
    ratio = median(a / b for a, b in pairs)
    print(f"\n{name:26s} {median(a for a, _ in pairs):6.2f} s  {ratio:5.2f}", end="", flush=True)
    return ratio


def test_a_step_with_each_term_against_plain_fine_tuning(teacher: nn.Module) -> None:
    torch.set_num_threads(1)
    plain = Variant()
    students = {mode: build(teacher, Variant(mode=mode)) for mode in ("weights", "all")}
    references = {mode: stepper(students[mode], teacher, plain.objective) for mode in students}
    ratios = {"a pass of the teacher": paired("a pass of the teacher", _passes(teacher), references["weights"])}
    for name, variant in VARIANTS.items():
        is_built = variant.steps or variant.gates
        student = build(teacher, variant) if is_built else copy.deepcopy(students[variant.mode])
        ratios[name] = paired(name, stepper(student, teacher, variant.objective), references[variant.mode])
    assert all(ratio > 0 for ratio in ratios.values())
    assert max(ratios[name] for name in ("logits", "hidden", "embeddings", "cosine")) < 1.5


def _passes(teacher: nn.Module) -> Callable[[], float]:
    batch = batch_of(BATCH, 1)

    def run() -> float:
        begun = time.process_time()
        with torch.no_grad():
            teacher(**batch)
        return time.process_time() - begun

    return run
