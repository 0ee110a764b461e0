"""The smaller module: its configuration solved, its attributes patched, its layout proven by a new trace."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from edgefold.dimensions import trace
from edgefold.folding import fold
from edgefold.plans import Plan, Select
from edgefold.resizing.modules import resize_module
from edgefold.student_building import build_student


def test_a_uniform_plan_is_solved_by_the_configuration(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    model = make_bert()
    sizes = {"hidden": 16, "ffn.0": 24, "ffn.1": 24, "heads.0": 2, "heads.1": 2}
    resized = resize_module(model, trace(model, text_batch()), text_batch(), sizes)
    assert resized.edits == ()
    assert (resized.module.config.hidden_size, resized.module.config.num_attention_heads) == (16, 2)
    assert resized.sizes["units.0"] == 16
    assert model.config.hidden_size == 24


@pytest.mark.parametrize("size", [8, 16])
def test_heads_keep_their_width_when_only_the_stream_shrinks(
    size: int, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    """The configuration would make the heads narrower, so it is no solution; attributes are patched instead."""
    model = make_bert()
    resized = resize_module(model, trace(model, text_batch()), text_batch(), {"hidden": size})
    attention = resized.module.bert.encoder.layer[0].attention.self
    assert resized.edits
    assert attention.query.weight.shape == (24, size)
    assert (attention.num_attention_heads, attention.attention_head_size) == (3, 8)


def test_one_number_with_two_meanings(text_batch: Callable[..., Any]) -> None:
    """A position table as long as the stream is wide: only the stream's fields change."""
    from transformers import BertConfig, BertForSequenceClassification

    fields = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 48, "num_hidden_layers": 1}
    model = BertForSequenceClassification(BertConfig(vocab_size=100, max_position_embeddings=24, **fields)).eval()
    resized = resize_module(model, trace(model, text_batch()), text_batch(), {"hidden": 16, "heads.0": 2})
    assert resized.module.config.max_position_embeddings == 24
    assert resized.module.bert.embeddings.position_embeddings.weight.shape == (24, 16)


class Ambiguous(nn.Module):
    """Two attributes of one value, only one of which is the resized size."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.repeats = 12, 12
        self.inner, self.out = nn.Linear(4, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x).view(-1, self.width)
        return self.out(hidden) * self.repeats


def test_a_number_that_only_looks_like_a_size_keeps_its_value() -> None:
    model, x = Ambiguous(), {"x": torch.randn(3, 4)}
    resized = resize_module(model, trace(model, x), x, {"hidden": 6})
    assert (resized.module.width, resized.module.repeats) == (6, 12)


def test_a_size_that_only_a_literal_states_is_rewritten_in_the_traced_graph() -> None:
    class Literal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(4, 12), nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.inner(x).view(-1, 12))

    model, x = Literal(), {"x": torch.randn(3, 4)}
    resized = resize_module(model, trace(model, x), x, {"hidden": 6})
    assert resized.is_graph
    assert resized.module(**x).shape == (3, 2)
    assert dict(resized.module.named_parameters())["inner.weight"].shape == (6, 4)


def test_tied_weights_stay_tied(text_batch: Callable[..., Any]) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=24, n_layer=1, n_head=3, vocab_size=101, n_positions=64, use_cache=False)
    model = GPT2LMHeadModel(config).eval()
    resized = resize_module(model, trace(model, text_batch()), text_batch(), {"hidden": 16})
    assert resized.edits
    assert resized.module.lm_head.weight is resized.module.transformer.wte.weight
    assert resized.module.lm_head.weight.shape == (101, 16)


def test_selected_heads_leave_the_residual_stream_as_wide_as_it_was() -> None:
    """A masked language model's stream is a permutation: it could follow the heads, but nobody asked it to."""
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    teacher = BertForMaskedLM(BertConfig(**sizes, vocab_size=50)).eval()
    ids = {"input_ids": torch.randint(0, 50, (2, 7))}
    plain: Any = fold(build_student(teacher, Plan([Select("heads", 2)]), ids, [ids]))
    assert plain.bert.embeddings.word_embeddings.embedding_dim == 24
    assert plain.bert.encoder.layer[0].attention.self.query.out_features == 12


def test_attributes_that_forward_does_not_read_are_not_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deep chain of fresh batch norms, whose variances of zero would make every output NaN, and NaN is no NaN."""
    from edgefold.resizing import attributes as attribute_resizing

    class Block(nn.Module):
        def __init__(self, width: int, out_channels: int) -> None:
            super().__init__()
            self.out_channels = out_channels
            self.layer, self.norm = nn.Linear(width, out_channels), nn.BatchNorm1d(out_channels)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.norm(self.layer(x)))

    traces = []

    def count(*arguments: Any) -> Any:
        traces.append(arguments)
        return agreeing_trace(*arguments)

    agreeing_trace = attribute_resizing.agreeing_trace
    monkeypatch.setattr(attribute_resizing, "agreeing_trace", count)
    widths = [6, *range(20, 60, 2)]
    model = nn.Sequential(*(Block(*pair) for pair in pairwise(widths)), nn.Linear(58, 2)).eval()
    inputs = {"input": torch.randn(4, 6)}
    graph = trace(model, inputs)
    sizes = {dimension.name: dimension.size // 2 for dimension in graph if dimension.kind != "fixed"}
    resized = resize_module(model, graph, inputs, sizes)
    assert [block.out_channels for block in list(resized.module)[:-1]] == [width // 2 for width in widths[1:]]  # type: ignore[arg-type]
    assert len(traces) == 1


def test_a_factor_that_becomes_one_leaves_the_sum_beside_it() -> None:
    """(a + b) x 2 channels of a depthwise convolution, joined with a + b: at one channel each a sum of sums."""

    class Multiplied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 4, 1)
            self.each, self.last = nn.Conv2d(10, 20, 3, padding=1, groups=10), nn.Conv2d(30, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            both = torch.relu(torch.cat([self.a(x), self.b(x)], 1))
            return self.last(torch.cat([both, torch.relu(self.each(both))], 1))

    torch.manual_seed(0)
    model, inputs = Multiplied().eval(), {"x": torch.randn(2, 3, 5, 5)}
    graph = trace(model, inputs)
    (multiple,) = (each for each in graph if each.kind == "permutation" and each.size == 2)
    resized = resize_module(model, graph, inputs, {multiple.name: 1})
    assert resized.module.get_parameter("each.weight").shape == (10, 1, 3, 3)
    assert resized.module(**inputs).shape == (2, 2, 5, 5)
