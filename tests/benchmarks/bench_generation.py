"""SmolLM2-135M and a student of it, exported with their cache: 64 greedy tokens as torch's, and how fast they come.

The student has every third layer and two thirds of the neurons, untrained: what it says is nonsense, but the nonsense
must be the same. Processor time of one thread, torch's `generate` and edgefold's in turn.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from language import token_batches
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgefold import DropLayers, Plan, Select, build_student, fold, load_student, save_student
from edgefold.exporters import export_generator
from edgefold.packaged.models import fetch_smollm2
from edgefold.runtimes import generate, open_session

PROMPTS = ("The capital of France is", "My fellow Americans, tonight", "def fibonacci(n):", "Once")
TOKENS = 64
ROUNDS = 3


def teacher() -> Any:
    return AutoModelForCausalLM.from_pretrained(fetch_smollm2(), local_files_only=True, dtype=torch.float32).eval()


def student(folder: Path) -> Any:
    """Saved and opened again."""
    batches = token_batches(1024)
    plan = Plan([DropLayers(every=3), Select("ffn", 1024)])
    built = build_student(teacher(), plan, {"input_ids": batches[0]["input_ids"][:2, :32]}, calibration=batches)
    return load_student(save_student(fold(built), folder))


def seconds(call: Callable[[], Any]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


@pytest.mark.parametrize("name", ["SmolLM2-135M", "student"])
def test_greedy_text(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = student(tmp_path / "student") if name == "student" else teacher()
    tokenizer: Any = AutoTokenizer.from_pretrained(fetch_smollm2(), local_files_only=True)
    rows = [tokenizer(prompt).input_ids for prompt in PROMPTS]
    batch = tokenizer(list(PROMPTS), padding=True, padding_side="left", return_tensors="pt")
    artifact = export_generator(model, dict(batch), tmp_path / "out", tokenizer=tokenizer)
    options = {"max_new_tokens": TOKENS, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with open_session(artifact) as session, torch.no_grad():
        together = np.stack(generate(session, rows, TOKENS, end_ids=()))
        np.testing.assert_array_equal(together, model.generate(**batch, **options)[:, -TOKENS:].numpy())
        one = torch.tensor([rows[0]])
        alone = generate(session, one.numpy(), TOKENS, end_ids=())[0]
        np.testing.assert_array_equal(alone, model.generate(one, **options)[0, -TOKENS:].numpy())
        times = [
            (
                seconds(lambda: generate(session, one.numpy(), TOKENS, end_ids=())),
                seconds(lambda: model.generate(one, **options)),
            )
            for _ in range(ROUNDS)
        ]
    ratio = median(theirs / ours for ours, theirs in times)
    print(f"\n{name}: {len(rows)} x {TOKENS} tokens equal; error {artifact.lineage['parity']['fp32']:.1e} of a logit")
    print(f"{TOKENS / median(ours for ours, _ in times):.1f} tokens/s of processor time, {ratio:.2f} times torch's")
    print(repr(tokenizer.decode(alone)[:80]))
