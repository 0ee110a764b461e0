"""What the demo measures of its artifacts: accuracy in ONNX Runtime, and times taken in turns."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from transformers import DataCollatorWithPadding

from edgefold.artifacts import Artifact
from edgefold.cli.candidates import Candidate, choose_fastest
from edgefold.ratios import paired_ratio
from edgefold.reporting.summaries import LayerShape, ModelResult, Role
from edgefold.reports import Report, write_report
from edgefold.runtimes import Session, benchmark_together, example_inputs, open_session
from edgefold.tasks.batches import EncodedRows

BATCH, SEQUENCE = 1, 128
BASELINE = "teacher fp32"


class Contestant:
    """An artifact with what is known of its making."""

    def __init__(
        self, name: str, role: Role, artifact: Artifact, model: nn.Module, training_seconds: float | None
    ) -> None:
        self.name = name
        self.role = role
        self.artifact = artifact
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.encoder_parameters = count_encoder_parameters(model)
        self.training_seconds = training_seconds
        self.accuracy = 0.0
        self.validation_accuracy = 0.0
        self.chosen = True


def count_encoder_parameters(model: nn.Module) -> int:
    """Of the longest list of layers."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    longest = max(lists, key=lambda found: sum(p.numel() for p in found.parameters()))
    return sum(parameter.numel() for parameter in longest.parameters())


def measure_accuracy(artifact: Artifact, dataset: EncodedRows, tokenizer: Any, threads: int) -> float:
    """The share of rows whose largest logit is the label's."""
    order = sorted(range(len(dataset)), key=lambda i: len(dataset[i]["input_ids"]))
    pad = DataCollatorWithPadding(tokenizer, return_tensors="np")
    correct = 0
    with open_session(artifact, threads=threads) as session:
        names = {spec.name for spec in session.inputs}
        for start in range(0, len(order), 32):
            batch = pad([dataset[i] for i in order[start : start + 32]])
            feeds = {name: np.asarray(value, np.int64) for name, value in batch.items() if name in names}
            logits = next(iter(session.run(feeds).values()))
            correct += int((logits.argmax(-1) == np.asarray(batch["labels"])).sum())
    return correct / len(dataset)


def measure_times(contestants: Sequence[Contestant], out: Path, seconds: float) -> dict[str, Report]:
    """All of them in turns on one thread, batch 1, 128 tokens; the raw times go to `out`."""
    with ExitStack() as stack:
        sessions: Mapping[str, Session] = {
            contestant.name: stack.enter_context(open_session(contestant.artifact, threads=1))
            for contestant in contestants
        }
        sizes = [contestant.artifact.vocab_size for contestant in contestants]
        vocab_size = min((size for size in sizes if size), default=None)
        inputs = example_inputs(contestants[0].artifact.inputs, batch=BATCH, sequence=SEQUENCE, vocab_size=vocab_size)
        reports = benchmark_together(sessions, inputs, min_duration_s=seconds)
    write_report({name: report.model_dump(mode="json") for name, report in reports.items()}, out)
    return reports


def as_result(contestant: Contestant, reports: Mapping[str, Report]) -> ModelResult:
    """Everything of one model on the common axes."""
    report = reports[contestant.name]
    return ModelResult(
        name=contestant.name,
        role=contestant.role,
        precision=contestant.artifact.precision,
        parameters=contestant.parameters,
        encoder_parameters=contestant.encoder_parameters,
        size_bytes=contestant.artifact.size_bytes,
        accuracy=contestant.accuracy,
        p50_s=report.p50_s,
        cpu_p50_s=report.cpu_p50_s,
        ratio=paired_ratio(reports[BASELINE], report),
        training_seconds=contestant.training_seconds,
        chosen=contestant.chosen,
    )


def choose_int8(candidates: Sequence[Contestant], reports: Mapping[str, Report], fp32: Contestant) -> Contestant:
    """The fastest int8 variant within half a point of fp32 on the validation data, else the most accurate."""
    measured = [Candidate(c.name, c.validation_accuracy, reports[c.name].cpu_p50_s) for c in candidates]
    best = choose_fastest(measured, fp32.validation_accuracy - 0.005)
    for candidate in candidates:
        candidate.chosen = candidate.name == best.name
    return next(candidate for candidate in candidates if candidate.chosen)


def layer_shapes(teacher: nn.Module, student: nn.Module) -> tuple[LayerShape, ...]:
    """Every parameter of the student beside the teacher's of that name."""
    before = dict(teacher.named_parameters())
    return tuple(
        LayerShape(parameter=name, teacher=tuple(before[name].shape), student=tuple(parameter.shape))
        for name, parameter in student.named_parameters()
        if name in before
    )
