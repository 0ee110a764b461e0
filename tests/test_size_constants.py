"""A constant that depends on a size changes in the smaller architecture; the weights make up for it exactly."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GemmaConfig, GemmaForCausalLM, T5Config, T5ForConditionalGeneration

from edgefold.checkpoints import load_student, read_manifest, save_student
from edgefold.dimensions import trace
from edgefold.folding import fold
from edgefold.plans import Plan, Project, Select
from edgefold.resizing.size_constants import compensated, find_compensations
from edgefold.student_building import STARTS, build_student

WIDTH, KEPT = 16, 8


def in_subspace(model: nn.Module) -> nn.Module:
    """The residual stream only ever uses its first KEPT coordinates, so that a projection to KEPT loses nothing."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("shared.weight", "embed_tokens.weight")):
                parameter[:, KEPT:] = 0
            if name.endswith((".o.weight", "wo.weight", "o_proj.weight", "down_proj.weight")):
                parameter[KEPT:] = 0
    return model


def t5() -> nn.Module:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=50, d_model=WIDTH, d_kv=4, d_ff=32, num_layers=2, num_heads=4, layer_norm_epsilon=1e-12
    )
    return in_subspace(T5ForConditionalGeneration(config).double().eval())


def gemma() -> nn.Module:
    """Look-ups times sqrt(hidden_size), and the table tied to the output."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-12}
    return in_subspace(GemmaForCausalLM(GemmaConfig(**sizes, **heads, pad_token_id=0)).double().eval())


class Scaled(nn.Module):
    """An old-style encoder: look-ups times sqrt(width) before the positions, attention scores over sqrt(head_dim)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.width = WIDTH
        self.table, self.positions = nn.Embedding(50, WIDTH), nn.Embedding(9, WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.norm, self.out = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.table(input_ids) * math.sqrt(self.width)
        x = x + self.positions(torch.arange(input_ids.shape[1]))
        scores = self.q(x) @ self.k(x).transpose(1, 2) / math.sqrt(self.width)
        attended: Tensor = self.out(x + scores.softmax(-1) @ self.v(x))
        return attended


def batch(model: nn.Module) -> dict[str, Tensor]:
    ids = torch.randint(1, 50, (8, 9), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, **({"decoder_input_ids": ids} if isinstance(model, T5ForConditionalGeneration) else {})}


def outputs(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Any = model(**inputs)
    value: Tensor = found if isinstance(found, Tensor) else found.logits
    return value


@pytest.mark.parametrize("make", [t5, gemma])
@pytest.mark.parametrize("start", STARTS)
def test_a_stream_that_fits_loses_nothing(make: Any, start: str) -> None:
    teacher = make()
    inputs = batch(teacher)
    student = build_student(teacher, Plan([Project("hidden", KEPT)]), inputs, [inputs], start=start)
    assert student.structure.is_uniform
    expected = outputs(teacher, inputs)
    torch.testing.assert_close(outputs(student, inputs), expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_attention_scores_keep_their_scale() -> None:
    """Queries and keys that use half of their coordinates, selected down to those."""
    teacher = Scaled().double().eval()
    with torch.no_grad():
        for layer in (teacher.q, teacher.k):
            layer.weight[::2], layer.bias[::2] = 0, 0
    inputs = batch(teacher)
    graph = trace(teacher, inputs)
    name = next(m.name for m in graph.dimensions if m.kind == "permutation" and m.size == WIDTH)
    student = build_student(teacher, Plan([Select(name, KEPT)]), inputs, [inputs], graph=graph)
    torch.testing.assert_close(outputs(student, inputs), outputs(teacher, inputs), rtol=0, atol=1e-9)


def test_the_same_size_needs_no_compensation() -> None:
    for make in (t5, gemma, lambda: Scaled().double().eval()):
        model = make()
        graph = trace(model, batch(model))
        assert find_compensations(graph, graph) == {}
        assert compensated(graph, {}) == {}


def test_a_saved_student_computes_its_constants_anew(tmp_path: Path) -> None:
    """Gemma's sqrt(hidden_size) is in no checkpoint; nor are rotary frequencies, which a selection picks from."""
    teacher = gemma()
    inputs = batch(teacher)
    for step in (Project("hidden", KEPT), Select("head_dim", 4)):
        plain = fold(build_student(teacher, Plan([step]), inputs, [inputs], start="pca"))
        folder = save_student(plain, tmp_path / type(step).__name__)
        torch.testing.assert_close(outputs(load_student(folder).double(), inputs), outputs(plain, inputs))
        if read_manifest(folder)["uniform"]:
            opened = GemmaForCausalLM.from_pretrained(folder).double().eval()
            torch.testing.assert_close(outputs(opened, inputs), outputs(plain, inputs))
    assert read_manifest(tmp_path / "Project")["uniform"]
    assert not read_manifest(tmp_path / "Select")["uniform"]
