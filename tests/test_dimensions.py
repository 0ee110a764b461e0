"""Tracing finds the dimensions of a network by what runs along them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from edgefold import dimensions
from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.plans import Plan, Select
from edgefold.student_building import build_student


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bert_has_one_residual_stream_and_per_layer_spaces(
    attention: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    graph = trace(make_bert(attn_implementation=attention), text_batch())
    kinds = {d.name: (d.kind, d.size) for d in graph}
    assert kinds["hidden"] == ("linear", 24)
    assert kinds["vocab"] == ("fixed", 101)
    assert kinds["ffn.0"] == kinds["ffn.1"] == ("permutation", 40)
    assert kinds["heads.0"] == kinds["heads.1"] == ("heads", 3)
    assert "ffn.2" not in kinds
    assert kinds["units.0"] == ("permutation", 24)


def test_every_parameter_axis_has_a_dimension(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    model = make_bert()
    graph = trace(model, text_batch())
    for name, parameter in model.named_parameters():
        sizes = [torch.Size([f.size for f in axis]).numel() for axis in graph.layouts[name]]
        assert sizes == list(parameter.shape), name
        assert all(factor.dimension for axis in graph.layouts[name] for factor in axis), name


def test_macs_are_those_of_the_products(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    graph = trace(make_bert(), text_batch(rows=4, length=9))
    assert graph["ffn.0"].macs == 2 * 4 * 9 * 24 * 40


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 12, 3, padding=1)
        self.skip = nn.Conv2d(3, 12, 1)
        self.head = nn.Linear(12 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.first(x)))
        y = torch.relu(self.second(y) + self.skip(x))
        return self.head(nn.functional.max_pool2d(y, 2).flatten(1))


def test_conv_net() -> None:
    graph = trace(Convolutional(), {"x": torch.randn(2, 3, 8, 8)})
    assert {(d.name, d.kind, d.size) for d in graph if d.kind != "fixed"} == {
        ("channels.0", "permutation", 8),
        ("channels.1", "permutation", 12),
    }
    assert {m.parameter for m in graph["channels.0"].members} >= {"first.weight", "norm.running_mean", "second.weight"}
    assert [f.size for f in graph.layouts["head.weight"][1]] == [12, 4, 4]


def test_mlp_with_a_linear_bottleneck() -> None:
    mlp = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 5), nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 3))
    kinds = {d.name: (d.kind, d.size) for d in trace(mlp, {"input": torch.randn(2, 6)})}
    assert kinds["hidden"] == ("linear", 5)
    assert sorted(kinds.values()) == sorted(
        [("linear", 5), ("permutation", 16), ("permutation", 16), ("fixed", 6), ("fixed", 3)]
    )


class RawParameters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 10)
        self.w = nn.Parameter(torch.randn(10, 10))
        self.out = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x)
        hidden = hidden + torch.relu(hidden @ self.w) @ self.w.T
        return self.out(hidden)


def test_raw_parameters_count_like_layers() -> None:
    graph = trace(RawParameters(), {"x": torch.randn(3, 4)})
    assert [(f.dimension, f.size) for axis in graph.layouts["w"] for f in axis] == [("hidden", 10), ("ffn.0", 10)]


class RunningLargest(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 6)
        self.b = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.cummax(self.a(x), dim=-1).values)


def test_an_operator_without_a_rule_makes_its_dimensions_fixed_and_is_named() -> None:
    graph = trace(RunningLargest(), {"x": torch.randn(3, 4)})
    reasons = [d.reason for d in graph if d.size == 6]
    assert all(d.kind == "fixed" for d in graph)
    assert any("no rule for cummax" in reason and "test_dimensions.py" in reason for reason in reasons)


def test_gating_and_scalar_shift_forbid_projection_but_not_selection() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.gate, self.down = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(self.up(x) * self.gate(x))

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(self.up(x) + 1.0)

    for model in (Gated(), Shifted()):
        assert [d.kind for d in trace(model, {"x": torch.randn(3, 4)}) if d.size == 6] == ["permutation"]


def test_a_sum_that_python_begins_at_zero_is_linear() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tables = nn.ModuleList(nn.Embedding(3, 6) for _ in range(2))
            self.down = nn.Linear(6, 2)

        def forward(self, ids: Tensor) -> Tensor:
            return self.down(sum(table(ids) for table in self.tables))

    assert trace(Summed(), {"ids": torch.tensor([0, 1, 2])})["hidden"].kind == "linear"


def test_unknown_names_are_told_the_known_ones() -> None:
    graph = trace(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), {"input": torch.randn(2, 3)})
    with pytest.raises(InputError, match=r"No dimension matches 'ffn'; this model has units\.0, input\.0, output\.0"):
        graph.match("ffn")
    with pytest.raises(InputError, match="No dimension is named 'x'"):
        graph["x"]
    assert [d.name for d in graph.match("units")] == ["units.0"]


def test_bad_inputs_are_refused() -> None:
    model = nn.Linear(3, 2)
    with pytest.raises(InputError, match=r"must be a dict of example tensors.*; got an empty one"):
        trace(model, {})
    with pytest.raises(InputError, match=r"must be a dict of example tensors.*; got list\.$"):
        trace(model, [torch.randn(2, 3)])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"inputs\['input'\] must be a tensor; got list"):
        trace(model, {"input": [1, 2]})  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"torch.export cannot trace Linear with inputs .*\(2, 7\)"):
        trace(model, {"input": torch.randn(2, 7)})


def test_tracing_leaves_the_model_as_it_was(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    model = make_bert().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, text_batch())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_a_stream_that_may_be_projected_says_what_it_has_instead() -> None:
    """The usual masked language model: between its last layer and the tied embeddings stands a nonlinearity."""
    config = BertConfig(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=40, vocab_size=101
    )
    ids = torch.arange(10).reshape(2, 5)
    graph = trace(BertForMaskedLM(config), {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    with pytest.raises(InputError, match=r"Most parameters share units\.0 \(permutation: Select or keep\).*tied"):
        graph.match("hidden")


FOLLOWED = {
    "reshape_as": (lambda h: h.flatten(0, 1).reshape_as(h), "linear"),
    "zeroed in place": (lambda h: h + h.clone().zero_(), "linear"),
    "every second place": (lambda h: torch.cat([h[:, ::2], h[:, 1::2]], 1), "linear"),
    "copied into what is new": (lambda h: h.new_empty(h.shape).copy_(h), "permutation"),
    "less its largest": (lambda h: h - h.max(-1, keepdim=True).values, "permutation"),
    "over its variance": (lambda h: h / h.var(-1, keepdim=True), "permutation"),
    "a gated half": (lambda h: nn.functional.glu(torch.cat([h, 2 * h], -1)), "permutation"),
    "added at places": (
        lambda h: torch.zeros_like(h).index_add(1, torch.arange(8) // 2, h),
        "linear",
    ),
    "one place at a time": (lambda h: nn.functional.conv1d(h, torch.ones(8, 8, 1)), "linear"),
    "with its neighbours": (lambda h: nn.functional.conv1d(h, torch.ones(8, 8, 3), padding=1), "fixed"),
    "pooled": (lambda h: nn.functional.avg_pool1d(h, 3, 1, 1, count_include_pad=False).repeat(1, 1, 1), "fixed"),
    "filled": (lambda h: h + torch.zeros_like(h).fill_(2.0), "permutation"),
    "resampled": (
        lambda h: (
            nn.functional.interpolate(h.transpose(1, 2)[..., None], (4, 1), mode="bicubic", antialias=True)
            .squeeze(-1)
            .transpose(1, 2)
        ),
        "linear",
    ),
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_what_happens_to_an_axis_on_the_way(case: str) -> None:
    """x: (batch, 8, 4) -> (batch, 8, 6) -> ... -> (batch, ..., 2)."""
    change, kind = FOLLOWED[case]

    class Changed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(change(self.inner(x)))

    graph = trace(Changed(), {"x": torch.randn(3, 8, 4)})
    assert {d.kind for d in graph if d.size == 6} == {kind}
    assert not [d.reason for d in graph if "no rule" in d.reason]


def test_places_that_whole_numbers_point_at_are_no_dimension() -> None:
    """As the pairs of features that a recommender multiplies."""

    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(4, 20), nn.Linear(10, 2)
            self.register_buffer("pairs", torch.tril_indices(5, 5, -1))

        def forward(self, x: Tensor) -> Tensor:
            h = self.inner(x).view(-1, 5, 4)
            return self.out((h @ h.transpose(1, 2))[:, self.pairs[0], self.pairs[1]])

    graph = trace(Pairs(), {"x": torch.randn(3, 4)})
    assert {d.size: d.kind for d in graph} | {4: "", 2: ""} == {10: "fixed", 5: "fixed", 4: "", 2: ""}


def test_a_head_of_one_output_is_named_as_one_of_two(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    """What lies before it is read by no matrix of neurons, so that a plan for `ffn` leaves it alone."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    for labels in (1, 2):
        model = BertForSequenceClassification(BertConfig(vocab_size=40, **sizes, num_labels=labels)).eval()
        names = [dimension.name for dimension in trace(model, text_batch())]
        assert [name for name in names if name.startswith("ffn")] == ["ffn.0", "ffn.1"]
        assert "units.0" in names


class Sloped(nn.Module):
    """As many channels as columns, so that a slope for each channel could be taken for one for each column."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.slope, self.second = nn.Conv2d(3, 8, 1), nn.PReLU(8), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.slope(self.first(x)))


def test_the_slopes_of_prelu_run_along_the_channels() -> None:
    graph = trace(Sloped(), {"x": torch.randn(2, 3, 8, 8)})
    (channels,) = (each for each in graph if each.kind == "permutation")
    assert {member.parameter for member in channels.members} == {
        "first.weight",
        "first.bias",
        "slope.weight",
        "second.weight",
    }


class HalfRead(nn.Module):
    """Computes something of which nothing comes."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(5, 8), nn.Linear(8, 2)
        self.unread, self.norm = nn.Linear(8, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.up(x))
        self.norm(self.unread(h))
        return self.down(h)


def test_what_no_output_depends_on_is_no_dimension_to_choose() -> None:
    model, inputs = HalfRead().eval(), {"x": torch.randn(4, 5)}
    graph = trace(model, inputs)
    (free,) = (each for each in graph if each.kind != "fixed")
    assert {"up.weight", "down.weight", "unread.weight"} <= {member.parameter for member in free.members}
    (unread,) = (each for each in graph if any(member.parameter == "norm.weight" for member in each.members))
    assert unread.reason == "no output depends on it"
    student = build_student(model, Plan([Select(free.name, 4)]), inputs, [inputs])
    assert all(bool(torch.isfinite(each).all()) for each in student.state_dict().values())
    assert student(**inputs).shape == (4, 2)


class TiedWords(nn.Module):
    """A table that is also the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(31, 8), nn.Linear(8, 31, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.embed(ids))  # type: ignore[no-any-return]


def test_tied_parameters_have_the_models_first_name_whichever_the_trace_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.11 keeps the last."""
    exported = dimensions._export

    def keep_the_last(*args: Any) -> Any:
        module = exported(*args)
        module.add_submodule("head", nn.Linear(8, 31, bias=False))
        module.head.weight = module.embed.weight
        for node in module.graph.nodes:
            node.target = "head.weight" if node.target == "embed.weight" else node.target
        module.delete_submodule("embed")
        module.recompile()
        return module

    monkeypatch.setattr(dimensions, "_export", keep_the_last)
    model, ids = TiedWords(), torch.randint(31, (2, 5))
    graph = trace(model, {"ids": ids})
    assert [name for _, name, _ in graph.lookups] == [read.parameter for read in graph.reads] == ["embed.weight"]
    assert graph.module.get_parameter("embed.weight") is model.embed.weight
    torch.testing.assert_close(graph.module(ids=ids), model(ids))
