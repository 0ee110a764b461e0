"""How close a student is before any training, with and without the sequential start: MiniLM-L6 as a sentence embedder.

Fidelity is Spearman's correlation of the cosine similarities of all pairs of 600 held-out texts, teacher against
student. `SAMPLES=512 make bench ARGS="-k sequential"`; prints a table.
"""

import os
import time

import pytest
from sentence_embedding import HELD_OUT, batches, embed, fidelity, load_embedder, load_tokenizer, texts

from edgefold.plans import Plan, Project, Select
from edgefold.student_building import STARTS, build_student

SAMPLES = int(os.environ.get("SAMPLES", "2400"))
WIDTHS = {"half": (192, 768, 6), "third": (128, 512, 4)}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_sequential_start_of_a_sentence_embedder(width: str) -> None:
    tokenizer, teacher, every = load_tokenizer(), load_embedder(), texts()
    held_out, calibration = batches(tokenizer, every[:HELD_OUT]), batches(tokenizer, every[HELD_OUT:][:SAMPLES])
    wanted = embed(teacher, held_out)
    hidden, ffn, heads = WIDTHS[width]
    plan = Plan([Project("hidden", hidden), Select("ffn", ffn), Select("heads", heads)])
    for start in reversed(STARTS):
        begun = time.perf_counter()
        student = build_student(teacher, plan, calibration[len(calibration) // 2], calibration, start=start)
        seconds = time.perf_counter() - begun
        found = fidelity(wanted, embed(student, held_out))
        print(f"\n{width:6}{start:12}{SAMPLES:6} texts  fidelity {found:.3f}  {seconds:5.0f} s", end="")
    assert found > 0.5
