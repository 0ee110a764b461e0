"""A model stays where it is, on a GPU after it was trained there; example tensors may come from the CPU."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgefold.dimensions import trace
from edgefold.folding import fold
from edgefold.plans import NM, LowRank, Plan, Project, Select
from edgefold.student_building import build_student
from edgefold.students import MODES
from edgefold.tracing.placement import device_of, placed

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
PLAN = Plan([Project("hidden", 16), Select("ffn", 24), Select("heads", 2)])


def test_a_model_is_where_its_first_tensor_is() -> None:
    assert device_of(nn.Linear(2, 2, device="meta")).type == "meta"
    assert device_of(nn.BatchNorm1d(2, affine=False, device="meta")).type == "meta"
    assert device_of(nn.ReLU()).type == "cpu"
    assert placed({"x": torch.ones(2)}, torch.device("meta"))["x"].device.type == "meta"


def test_a_model_elsewhere_is_traced_with_tensors_of_the_cpu(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], bert_graph: Any
) -> None:
    assert str(trace(make_bert().to("meta"), text_batch())) == str(bert_graph)


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("start", ["sequential", "pca"])
def test_a_student_built_on_the_gpu_is_the_one_built_on_the_cpu(
    mode: str, start: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    teacher, batches = make_bert(), [text_batch(8), text_batch(8, seed=1)]
    wanted = build_student(teacher, PLAN, text_batch(), batches, mode, start=start)
    found = build_student(copy.deepcopy(teacher).cuda(), PLAN, text_batch(), batches, mode, start=start)
    assert {tensor.device.type for tensor in found.state_dict().values()} == {"cuda"}
    with torch.no_grad():
        expected = wanted(**text_batch()).logits
        computed = found(**placed(text_batch(), device_of(found))).logits
        folded = fold(found)(**placed(text_batch(), device_of(found))).logits
    torch.testing.assert_close(computed.cpu(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(folded.cpu(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@NEEDS_CUDA
@pytest.mark.parametrize("step", [LowRank("*.dense", 4), NM(2, 4, score="wanda")])
def test_factors_and_masks_are_made_on_the_gpu(
    step: Any, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    teacher, batches = make_bert(), [text_batch(8)]
    students = [build_student(t, Plan([step]), text_batch(), batches) for t in (teacher, copy.deepcopy(teacher).cuda())]
    with torch.no_grad():
        expected, computed = (s.eval()(**placed(text_batch(), device_of(s))).logits.cpu() for s in students)
    torch.testing.assert_close(computed, expected, rtol=1e-5, atol=1e-6)
