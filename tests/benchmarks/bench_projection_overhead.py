"""What a training step costs when its weights are composed, against a dense step of the folded student, paired.

A model of MiniLM-L6's size at a third of its width (128 / 512 / 4 heads), batch 32 x 128 tokens, fused AdamW as the
Trainer takes by default; the goal is a ratio of at most 1.25. One step of each in turn, processor time, the median of the
pairs' ratios. Mode "all" trains three times as many weights as the dense step: with AdamW unfused it is at 1.3.
"""

import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from edgefold.folding import fold
from edgefold.plans import Plan, Project, Select
from edgefold.student_building import build_student

PAIRS = 12
BATCH, SEQUENCE = 32, 128
LIMIT = 1.25
PLAN = Plan([Project("hidden", 128), Select("ffn", 512), Select("heads", 4)])


def batch_of(rows: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 30522, (rows, SEQUENCE), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def stepper(model: nn.Module) -> Callable[[int], float]:
    """A function that takes one training step and returns its processor seconds."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def step(seed: int) -> float:
        batch = batch_of(BATCH, seed)
        begun = time.process_time()
        output: Any = model(**batch)
        output.logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - begun

    return step


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12, "num_hidden_layers": 6}
    return BertForSequenceClassification(BertConfig(**sizes)).eval()


@pytest.mark.parametrize("mode", ["projection", "all"])
def test_a_projected_step_against_a_dense_step(mode: str, teacher: nn.Module) -> None:
    torch.set_num_threads(1)
    student = build_student(teacher, PLAN, batch_of(2, 0), [batch_of(8, 1)], mode).train()
    dense, projected = stepper(fold(student).train()), stepper(student)
    pairs = [(projected(seed), dense(seed)) for seed in range(PAIRS + 2)][2:]
    ratios = [a / b for a, b in pairs]
    low, _, high = quantiles(ratios, n=4)
    print(
        f"\nmode {mode}: projected {median(a for a, _ in pairs):.3f} s, dense {median(b for _, b in pairs):.3f} s a "
        f"step; ratio {median(ratios):.3f} (quartiles {low:.3f} to {high:.3f})"
    )
    assert median(ratios) < LIMIT
