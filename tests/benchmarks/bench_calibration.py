"""What gathering a plan's moments costs against a bare forward pass of the teacher on the same batches, paired.

MiniLM-L6, batch 32 x 128 tokens, one thread, processor time, one batch of each in turn, the median of the pairs'
ratios. The goal is 1.3 for a plan that resizes. Factor pairs everywhere want every second moment whole, those of 1536
neurons too: that ratio is printed and not held to it. `make bench ARGS="-k calibration"`.
"""

import os
import time
from statistics import median, quantiles

import pytest
import torch
from sentence_embedding import load_embedder
from torch import Tensor

from edgefold.calibration import collect_moments
from edgefold.dimensions import trace
from edgefold.starts.calibration_targets import find_targets

PAIRS = int(os.environ.get("PAIRS", "10"))
BATCH, SEQUENCE = 32, 128
LIMIT = 1.3


def batch_of(seed: int) -> dict[str, Tensor]:
    ids = torch.randint(1000, 30522, (BATCH, SEQUENCE), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("plan", ["select", "project and select", "low rank everywhere"])
def test_calibration_against_a_bare_forward(plan: str) -> None:
    torch.set_num_threads(1)
    teacher = load_embedder()
    graph = trace(teacher, batch_of(0))
    resized = [d.name for d in graph if d.name.partition(".")[0] in ("ffn", "heads")] if "select" in plan else []
    assert not resized or len(resized) == 12
    projected = {"hidden"} & set(plan.replace("project", "hidden").split())
    factorized = [read.parameter for read in graph.reads] if "rank" in plan else []
    targets = find_targets(graph, [*resized, *projected], projected, factorized)
    pairs = []
    for seed in range(PAIRS + 2):
        batch = batch_of(seed)
        begun = time.process_time()
        with torch.no_grad():
            teacher(**batch)
        between = time.process_time()
        collect_moments(graph.module, targets.axes, [batch], targets.blocks)
        pairs.append((between - begun, time.process_time() - between))
    ratios = [after / before for before, after in pairs[2:]]
    low, _, high = quantiles(ratios, n=4)
    bare, gathered = (median(times) for times in zip(*pairs, strict=True))
    print(
        f"\n{plan:20} bare forward {bare:.2f} s, with moments {gathered:.2f} s; "
        f"ratio {median(ratios):.2f} (quartiles {low:.2f} to {high:.2f})"
    )
    assert factorized or median(ratios) < LIMIT
