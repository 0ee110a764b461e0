"""What masks cost a fine-tuned MiniLM-L6 before any training, by score, and what they cost a step of training.

`DEMO=out/demo make bench ARGS="-k masks"` takes teacher and data from a folder that `edgefold demo` wrote; accuracy is
that of the first 500 validation texts, calibration sees 128 training texts, masked is the encoder. Prints a table.
"""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from edgefold.data.texts import read_splits
from edgefold.dimensions import trace
from edgefold.folding import fold
from edgefold.masks.steps import NM, Block, MaskStep, Unstructured
from edgefold.plans import Plan
from edgefold.student_building import build_student
from edgefold.tasks.batches import bare_batches
from edgefold.tasks.text_classification import accuracy, tokenize

DEMO = os.environ.get("DEMO")


def steps(score: str) -> list[MaskStep]:
    return [
        NM(2, 4, "encoder", score),
        NM(1, 4, "encoder", score),
        Unstructured(0.6, "encoder", score, end=0.0),
        Block(0.3, (4, 4), "encoder", score, end=0.0),
    ]


@pytest.mark.skipif(DEMO is None, reason="set DEMO to a folder that `edgefold demo` wrote")
def test_masks(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(str(DEMO))
    teacher: Any = AutoModelForSequenceClassification.from_pretrained(folder / "teacher").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "teacher")
    paths = {split: folder / "data" / f"{split}.jsonl" for split in ("train", "validation", "test")}
    splits = read_splits(paths, text="text", label="label", label_names=None)
    collate, held_out = DataCollatorWithPadding(tokenizer), tokenize(splits.validation[:500], tokenizer, 64)
    batches = bare_batches(tokenize(splits.train, tokenizer, 64), collate, 16, 128)
    graph = trace(teacher, batches[0])
    with capsys.disabled():
        print(f"\nteacher: accuracy {accuracy(teacher, held_out, collate):.3f}")
        for step in [step for score in ("magnitude", "wanda") for step in steps(score)]:
            begun = time.process_time()
            student = build_student(teacher, Plan([step]), batches[0], batches, graph=graph)
            seconds = time.process_time() - begun
            print(f"{step}: accuracy {accuracy(fold(student), held_out, collate):.3f}, built in {seconds:.1f} s")
        student = build_student(teacher, Plan([Unstructured(0.8, "encoder")]), batches[0], batches, graph=graph)
        for name, progress in (("a stair of the schedule", 0.2), ("a step without one", 0.2)):
            begun = time.process_time()
            with torch.no_grad():
                student.masks.advance(student.module, progress)
            print(f"{name}: {time.process_time() - begun:.3f} s")
