"""Scales of norms in their readers: the same function, and a start that loses nothing but what the projection cuts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from edgefold.dimensions import trace
from edgefold.distillation import Objective, captured_outputs, hidden_loss
from edgefold.distillation.pairs import find_pairs
from edgefold.distillation.terms import Distillation
from edgefold.plans import Plan, Project
from edgefold.starts.norm_scales import find_movable_scales, turned_to_scales, with_moved_scales
from edgefold.student_building import build_student
from edgefold.students import MODES

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3, "vocab_size": 101}


def llama(tied: bool) -> Any:
    """With norms of uneven scales."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=24, intermediate_size=40, use_cache=False, tie_word_embeddings=tied, rms_norm_eps=1e-12, **SIZES
    )
    model = LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_(torch.rand_like(weight) + 0.5)
    return model


def keep_in_subspace(model: Any, size: int) -> None:
    """All that is written into the stream lies in one random subspace."""
    q = torch.linalg.qr(torch.randn(24, size, dtype=torch.float64)).Q
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight @ q @ q.T)
        for name, weight in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weight.copy_(q @ q.T @ weight)


def ids() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(101, (8, 9), generator=torch.Generator().manual_seed(1))}


@pytest.mark.parametrize("tied", [False, True])
def test_moved_scales_leave_the_function_as_it_is(tied: bool) -> None:
    model = llama(tied)
    graph, tensors = trace(model, ids()), dict(model.named_parameters())
    movable = find_movable_scales(graph, graph.norms, tensors)
    assert len(movable) == (4 if tied else 5)  # a tied head cannot take the last norm's
    with torch.no_grad():
        before = model(**ids()).logits
        moved = with_moved_scales(movable, {name: tensor.detach().clone() for name, tensor in tensors.items()})
        moved |= {each.norm.weight: torch.ones(24) for each in movable if each.norm.weight}
        assert not torch.equal(
            moved["model.layers.0.self_attn.k_proj.weight"], model.model.layers[0].self_attn.k_proj.weight
        )
        model.load_state_dict(moved, strict=False)
        torch.testing.assert_close(model(**ids()).logits, before, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tied", [False, True])
def test_a_stream_in_a_subspace_is_kept_whole_whatever_the_scales(tied: bool, mode: str) -> None:
    model = llama(tied)
    keep_in_subspace(model, 16)
    student = build_student(model, Plan([Project("hidden", 16)]), ids(), [ids()], mode, start="pca")
    with torch.no_grad():
        # directions of the stream with little variance in them are found less exactly than float64
        torch.testing.assert_close(student(**ids()).logits, model(**ids()).logits, rtol=1e-5, atol=1e-6)


def test_hidden_states_are_matched_without_the_scales_that_were_moved() -> None:
    model = llama(tied=False)
    keep_in_subspace(model, 16)
    student = build_student(model, Plan([Project("hidden", 16)]), ids(), [ids()])
    paths = [match.module for match in student.matches]
    assert len(paths) == 5
    with captured_outputs(model, paths) as h, captured_outputs(student.module, paths) as s, torch.no_grad():
        model(**ids()), student(**ids())
    projection = student.projection("hidden")
    assert projection is not None
    projection = projection.detach()
    for match in student.matches:
        assert match.scale is not None
        assert float(hidden_loss(s[match.module], h[match.module] / match.scale, projection)) < 1e-12
        assert float(hidden_loss(s[match.module], h[match.module], projection)) > 1e-3


def test_the_trainer_compares_without_them() -> None:
    model = llama(tied=False)
    keep_in_subspace(model, 16)
    student = build_student(model, Plan([Project("hidden", 16)]), ids(), [ids()])
    compared = Distillation(student, Objective(), find_pairs(student, model, Objective(), ids))
    with torch.no_grad():
        seen, taught = compared.run_student(student.eval(), ids()), compared.run_teacher(model, ids())
        assert float(compared.terms(seen, taught, ids())["hidden"]) < 1e-12


def test_the_basis_is_turned_to_the_scales_that_stay() -> None:
    q = torch.linalg.qr(torch.randn(10, 6, dtype=torch.float64)).Q
    scale = torch.rand(10, dtype=torch.float64) + 0.5
    turned = turned_to_scales(q, [scale])
    small = turned.T @ (scale[:, None] * turned)
    torch.testing.assert_close(small, small.diagonal().diag())
    torch.testing.assert_close(turned @ turned.T, q @ q.T)
    identity = torch.eye(10, dtype=torch.float64)
    assert torch.equal(turned_to_scales(identity, [scale]), identity)


def test_a_norm_that_feeds_the_stream_keeps_its_scale(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    """BERT's norms shift as well, and what they give is added to."""
    model = make_bert()
    graph = trace(model, text_batch())
    assert find_movable_scales(graph, graph.norms, dict(model.named_parameters())) == []
