"""How close a student is before any training, with and without the sequential start: MiniLM-L6 as a sentence embedder.

Fidelity is Spearman's correlation of the cosine similarities of all pairs of 600 held-out texts, teacher against
student. `SAMPLES=512 make bench ARGS="-k sequential"`; prints a table.
"""

import os
import time

import pytest
from scipy.stats import spearmanr
from sentence_embeddings import HELD_OUT, batches, load_embedder, similarities, texts

from edgefold.plans import Plan, Project, Select
from edgefold.student_building import STARTS, build_student

SAMPLES = int(os.environ.get("SAMPLES", "2400"))
WIDTHS = {"half": (192, 768, 6), "third": (128, 512, 4)}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_sequential_start_of_a_sentence_embedder(width: str) -> None:
    tokenizer, teacher = load_embedder()
    every = texts()
    held_out, calibration = batches(tokenizer, every[:HELD_OUT]), batches(tokenizer, every[HELD_OUT:][:SAMPLES])
    wanted = similarities(teacher, held_out)
    hidden, ffn, heads = WIDTHS[width]
    plan = Plan([Project("hidden", hidden), Select("ffn", ffn), Select("heads", heads)])
    for start in reversed(STARTS):
        begun = time.perf_counter()
        student = build_student(teacher, plan, calibration[len(calibration) // 2], calibration, start=start)
        seconds = time.perf_counter() - begun
        fidelity = float(spearmanr(wanted, similarities(student, held_out)).statistic)
        print(f"\n{width:6}{start:12}{SAMPLES:6} texts  fidelity {fidelity:.3f}  {seconds:5.0f} s", end="")
    assert fidelity > 0.5
