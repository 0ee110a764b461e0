"""The three training modes and a random start on the demo task, at equal tokens and at equal processor time.

    DEMOS=out/demo,out/seed1,out/seed2 EPOCHS=6 make bench ARGS="-k modes"

Each folder is one that `edgefold demo` wrote: its teacher and its data are used. One thread and processor time, so that
a shared machine strikes no arm more than another. The teacher's outputs are cached once a seed and given to all arms:
what is compared is the student's own steps. The learning rates are those of `ARMS`, chosen on the validation texts of
seed 0. A random start has no projection to match hidden states through and learns from labels and logits alone.
"""

import copy
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, TrainerCallback

from edgefold.data.texts import read_splits
from edgefold.distillation import Objective
from edgefold.folding import fold
from edgefold.jobs.training_runs import training_arguments
from edgefold.plans import Plan, Project, Select
from edgefold.recipes.recipe import TrainingSettings
from edgefold.student_building import build_student
from edgefold.students import Student
from edgefold.tasks.batches import EncodedRows, bare_batches
from edgefold.tasks.text_classification import accuracy, tokenize
from edgefold.teachers.cache import TeacherCache
from edgefold.training import CompressionTrainer

PLAN = Plan([Project("hidden", 128), Select("ffn", 512), Select("heads", 4)])
WARM_UP = 0.06


@dataclass(frozen=True)
class Arm:
    """One way to start and to train."""

    mode: str
    learning_rate: float
    is_random: bool = False

    @property
    def objective(self) -> Objective:
        return Objective(hidden=0.0) if self.is_random else Objective()


ARMS = {
    "weights": Arm("weights", 4e-4),
    "projection": Arm("projection", 2e-3),
    "all": Arm("all", 4e-4),
    "random start": Arm("weights", 5e-4, is_random=True),
}


@dataclass
class Task:
    """A teacher with its data, and what it said of them."""

    teacher: Any
    collate: Any
    train: EncodedRows
    validation: EncodedRows
    test: EncodedRows
    cache: TeacherCache


class Clock:
    """How far training has come, in steps or in processor seconds; the learning rate follows it."""

    def __init__(self, steps: int, seconds: float | None) -> None:
        self._steps, self._seconds = steps, seconds
        self._begun = time.process_time()

    @property
    def elapsed(self) -> float:
        return time.process_time() - self._begun

    def share(self, step: int) -> float:
        return min(1.0, step / self._steps if self._seconds is None else self.elapsed / self._seconds)

    def factor(self, step: int) -> float:
        share = self.share(step)
        return share / WARM_UP if share < WARM_UP else (1 - share) / (1 - WARM_UP)


class StopInTime(TrainerCallback):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = self._clock.share(state.global_step) >= 1


def load_task(demo: Path) -> Task:
    tokenizer = AutoTokenizer.from_pretrained(demo / "teacher", local_files_only=True)
    teacher = AutoModelForSequenceClassification.from_pretrained(demo / "teacher", local_files_only=True).eval()
    paths = {split: demo / "data" / f"{split}.jsonl" for split in ("train", "validation", "test")}
    names = [teacher.config.id2label[i] for i in range(teacher.config.num_labels)]
    splits = read_splits(paths, text="text", label="label", label_names=names)
    texts = [tokenize(part, tokenizer, 64) for part in (splits.train, splits.validation, splits.test)]
    return Task(teacher, DataCollatorWithPadding(tokenizer), *texts, TeacherCache(4 << 30))


def start(task: Task, arm: Arm, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    batches = bare_batches(task.train, task.collate, 16, 512)
    inputs = batches[len(batches) // 2]
    if not arm.is_random:
        return build_student(task.teacher, PLAN, inputs, batches, arm.mode)
    student = build_student(task.teacher, PLAN, inputs, batches[:1], start="pca")
    return type(student.module)(copy.deepcopy(student.module.config))  # type: ignore[operator]


def train(task: Task, student: nn.Module, arm: Arm, seed: int, epochs: int, seconds: float | None) -> tuple[float, int]:
    """Train for the epochs, or for processor seconds; the seconds and steps that it took."""
    settings = TrainingSettings(epochs=epochs if seconds is None else 1000, seed=seed, learning_rate=arm.learning_rate)
    arguments = training_arguments(settings, Path(tempfile.gettempdir()), checkpoints=False)
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arm.learning_rate, weight_decay=0.0)
    clock = Clock(epochs * -(-len(task.train) // settings.batch_size), seconds)
    trainer = CompressionTrainer(
        student.train(),
        teacher=task.teacher,
        objective=arm.objective,
        args=arguments,
        train_dataset=task.train,
        data_collator=task.collate,
        teacher_cache_gib=1.0,
        optimizers=(optimizer, LambdaLR(optimizer, clock.factor)),
        callbacks=[StopInTime(clock)],
    )
    trainer.cache = task.cache
    trainer.train()
    return clock.elapsed, trainer.state.global_step


def run(task: Task, name: str, seed: int, epochs: int, seconds: float | None = None) -> dict[str, Any]:
    arm = ARMS[name]
    begun = time.process_time()
    student = start(task, arm, seed)
    begun_training = time.process_time()
    untrained = accuracy(student.eval(), task.validation, task.collate)
    took, steps = train(task, student, arm, seed, epochs, seconds)
    plain = fold(student) if isinstance(student, Student) else student
    return {
        "arm": name,
        "seed": seed,
        "budget": "tokens" if seconds is None else "time",
        "epochs": epochs,
        "learning_rate": arm.learning_rate,
        "start_seconds": begun_training - begun,
        "training_seconds": took,
        "steps": steps,
        "untrained": untrained,
        "validation": accuracy(plain.eval(), task.validation, task.collate),
        "test": accuracy(plain.eval(), task.test, task.collate),
        "teacher_test": accuracy(task.teacher, task.test, task.collate),
    }


def fill_cache(task: Task) -> None:
    """The teacher's outputs for every training text, before any arm's clock starts."""
    student = start(task, ARMS["weights"], 0)
    train(task, student, Arm("weights", 1e-12), 0, 1, None)


def print_table(results: list[dict[str, Any]]) -> None:
    for budget in ("tokens", "time"):
        for name in ARMS:
            rows = [row for row in results if (row["arm"], row["budget"]) == (name, budget)]
            if rows:
                shares = [row["test"] / row["teacher_test"] for row in rows]
                print(
                    f"equal {budget:7}{name:13}lr {rows[0]['learning_rate']:.0e}  untrained "
                    f"{mean(row['untrained'] for row in rows):.3f}  validation "
                    f"{mean(row['validation'] for row in rows):.4f}  of the teacher "
                    f"{' '.join(f'{share:.1%}' for share in shares)}  mean {mean(shares):.2%}  "
                    f"{mean(row['training_seconds'] for row in rows):.0f} s  "
                    f"{mean(row['steps'] for row in rows):.0f} steps"
                )


def measure(demos: list[Path], epochs: int, report: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    results = []
    for seed, demo in enumerate(demos):
        task = load_task(demo)
        fill_cache(task)
        seconds = None
        for budget in ("tokens", "time"):
            for name in ARMS:
                if budget == "time" and name in ("weights", "random start"):
                    continue  # the weights' seconds are the budget, and the random start trains the same steps
                results.append(run(task, name, seed, epochs, None if budget == "tokens" else seconds))
                seconds = seconds or results[-1]["training_seconds"]
                report(results[-1])
    return results


def test_the_modes_of_training_on_the_demo_task() -> None:
    torch.set_num_threads(1)
    demos = [Path(name) for name in os.environ.get("DEMOS", "out/demo").split(",")]
    results = measure(demos, int(os.environ.get("EPOCHS", "1")), lambda row: print(json.dumps(row), flush=True))
    print_table(results)
    best = {row["arm"]: row["test"] for row in results}
    assert best["weights"] > best["random start"]
