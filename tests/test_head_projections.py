"""Laws of the joint rank of values and outputs: each head keeps its own directions, exactly where its rank allows."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from edgefold.dimensions import trace
from edgefold.folding import fold
from edgefold.head_projections import leading_heads
from edgefold.plans import Plan, Project, Select
from edgefold.student_building import build_student
from edgefold.students import MODES

HEADS, HEAD_DIM, RANK = 4, 8, 3
SIZES = {"hidden_size": HEADS * HEAD_DIM, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 50}


def bert() -> nn.Module:
    torch.manual_seed(0)
    return BertModel(BertConfig(**SIZES, num_attention_heads=HEADS), add_pooling_layer=False).double().eval()


def llama() -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, num_attention_heads=HEADS, num_key_value_heads=2, attention_bias=True)
    return LlamaForCausalLM(config).double().eval()


def batch(rows: int = 8) -> dict[str, Tensor]:
    ids = torch.randint(0, 50, (rows, 9), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def cut_heads(model: nn.Module, groups: int, rank: int) -> None:
    """Every group of heads has an output matrix of this rank, each with its own directions."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if name.endswith(("attention.output.dense.weight", "o_proj.weight")):
            parts = parameter.data.view(len(parameter), groups, HEADS // groups, HEAD_DIM)
            for group in range(groups):
                basis = torch.linalg.qr(torch.randn(HEAD_DIM, rank, generator=generator, dtype=torch.float64)).Q
                parts[:, group] = parts[:, group] @ basis @ basis.T


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        found = model(**batch())
        value: Tensor = found.logits if hasattr(found, "logits") else found.last_hidden_state
    return value


def value_dimensions(model: nn.Module) -> list[str]:
    graph = trace(model, batch())
    return [name for name in graph.names if leading_heads(graph, name)]


@pytest.mark.parametrize(("make", "groups"), [(bert, HEADS), (llama, 2)])
@pytest.mark.parametrize("mode", MODES)
def test_a_head_of_low_rank_loses_nothing(make: Callable[[], nn.Module], groups: int, mode: str) -> None:
    teacher = make()
    cut_heads(teacher, groups, RANK)
    names = value_dimensions(teacher)
    assert len(names) == SIZES["num_hidden_layers"]
    plan = Plan([Project(name, RANK) for name in names])
    student = build_student(teacher, plan, batch(), [batch()], mode, start="pca")
    torch.testing.assert_close(outputs(student), outputs(teacher), rtol=0, atol=1e-10)
    torch.testing.assert_close(outputs(fold(student)), outputs(student), rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_it_composes_with_selected_heads(mode: str) -> None:
    teacher = bert()
    names = value_dimensions(teacher)
    plan = Plan([Select("heads", 2), Select("units", 16), *(Project(n, RANK) for n in names)])
    student = build_student(teacher, plan, batch(), [batch()], mode)
    assert {tuple(p.shape) for p in student.projections.values()} == {(2, HEAD_DIM, RANK)}
    torch.testing.assert_close(outputs(fold(student)), outputs(student), rtol=0, atol=1e-12)


def test_directions_of_single_heads_lose_less_than_shared_ones() -> None:
    teacher = bert()
    cut_heads(teacher, HEADS, RANK + 1)
    (name, *_) = value_dimensions(teacher)
    errors = {}
    for size in (RANK, RANK + 1, HEAD_DIM):
        student = build_student(teacher, Plan([Project(name, size)]), batch(), [batch()], start="pca")
        errors[size] = float((outputs(student) - outputs(teacher)).norm())
    assert errors[RANK] > errors[RANK + 1]
    assert errors[RANK + 1] < 1e-10
    assert errors[HEAD_DIM] < 1e-10


def test_a_dimension_outside_heads_has_one_projection() -> None:
    teacher = llama()
    graph = trace(teacher, batch())
    assert leading_heads(graph, "hidden") == ""
    assert all(leading_heads(graph, name) == "" for name in graph.names if graph[name].kind != "linear")
