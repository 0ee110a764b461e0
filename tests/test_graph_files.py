"""build(describe(trace(m))) = m at every batch size, and a file can make nothing be called but what is on the list."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.graphs.files import build_graph, describe_graph, trace_plain


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        return self.head(y.flatten(1))


class Sums(nn.Module):
    """Sizes in arithmetic, constants, a buffer that is not saved, tied weights, several outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.table.weight
        self.register_buffer("places", torch.arange(32), persistent=False)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        b, n = ids.shape
        x = self.table(ids) + self.places[:n, None] / n
        causal = torch.full((n, n), float("-inf"), dtype=x.dtype).triu(1)
        x = ((x @ x.mT) + causal).softmax(-1) @ x
        x = torch.where(mask[:, :, None] > 0, x, torch.zeros_like(x)).view(b, n, 2, 3).flatten(2)
        return {"scores": self.out(x), "pair": (x.mean(1), [x[:, 0].chunk(2, dim=-1)[1]])}


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(4, 6, num_layers=2, batch_first=True, bidirectional=True), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, (last, _) = self.lstm(x)
        return self.out(y), last.transpose(0, 1)


def floats(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def ids(rows: int, length: int) -> dict[str, Tensor]:
    return {"ids": torch.randint(0, 11, (rows, length)), "mask": torch.randint(0, 2, (rows, length))}


CASES: dict[str, tuple[Callable[[], nn.Module], list[dict[str, Tensor]]]] = {
    "convolutions": (Conv, [{"x": floats(4, 3, 8, 8)}, {"x": floats(1, 3, 8, 8)}, {"x": floats(9, 3, 8, 8)}]),
    "tokens": (Sums, [ids(4, 7), ids(1, 7), ids(6, 3)]),
    "recurrent": (Tagger, [{"x": floats(3, 5, 4)}, {"x": floats(1, 5, 4)}, {"x": floats(7, 5, 4)}]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rebuilt_graph_computes_the_same_at_other_sizes(case: str) -> None:
    make, batches = CASES[case]
    model = make().double().eval()
    description, tensors = describe_graph(trace_plain(model, batches[0]))
    rebuilt = build_graph(json.loads(json.dumps(description, allow_nan=False)), tensors)
    again = build_graph(*describe_graph(rebuilt))
    for batch in batches:
        for other in (rebuilt, again):
            torch.testing.assert_close(other(**batch), model(**batch), rtol=1e-12, atol=1e-12)


def test_parameters_stay_parameters_and_ties_stay_ties() -> None:
    model = Sums().double().eval()
    rebuilt = build_graph(*describe_graph(trace_plain(model, ids(4, 7))))
    assert sum(p.numel() for p in rebuilt.parameters()) == sum(p.numel() for p in model.parameters())


def linear() -> tuple[dict[str, Any], dict[str, Tensor]]:
    return describe_graph(trace_plain(nn.Linear(3, 2), {"input": torch.randn(4, 3)}))


@pytest.mark.parametrize(
    "target",
    ["os.system", "builtins.eval", "aten.from_file.default", "aten.__class__.default", "aten.linear", "", None, 3],
)
def test_a_target_that_is_not_on_the_list_is_refused(target: Any) -> None:
    description, tensors = linear()
    next(node for node in description["nodes"] if node["op"] == "call_function")["target"] = target
    with pytest.raises(InputError, match=r"The graph file calls .* which is not allowed: only operators of aten and"):
        build_graph(description, tensors)


def test_modules_may_have_names_that_python_could_not_write() -> None:
    """As torchvision's RegNet has: block1-0."""
    torch.manual_seed(0)
    model, x = nn.Sequential(), torch.randn(3, 4)
    model.add_module("block1-0", nn.Linear(4, 4))
    model.add_module("a/b: c", nn.Linear(4, 2))
    rebuilt = build_graph(*describe_graph(trace_plain(model, {"input": x})))
    assert rebuilt.state_dict().keys() == model.state_dict().keys()
    torch.testing.assert_close(rebuilt(input=x), model(x))


@pytest.mark.parametrize("target", ['block", "', "block\\", "class.weight", "block.", "a)\nimport os"])
def test_names_that_end_their_quotes_are_refused(target: str) -> None:
    description, tensors = linear()
    next(node for node in description["nodes"] if node["op"] == "get_attr")["target"] = target
    with pytest.raises(InputError, match="which is none of a module"):
        build_graph(description, tensors)


@pytest.mark.parametrize("field", ["name", "target"])
@pytest.mark.parametrize("op", ["placeholder", "get_attr"])
def test_names_that_could_be_code_are_refused(op: str, field: str) -> None:
    description, tensors = linear()
    next(node for node in description["nodes"] if node["op"] == op)[field] = "x): import os  #"
    with pytest.raises(InputError, match="which is none of a module"):
        build_graph(description, tensors)


@pytest.mark.parametrize(
    "value",
    [
        {"node": "nothing"},
        {"dtype": "load"},
        {"device": "x'"},
        {"float": "1"},
        {"pickle": "gASV"},
        {"dtype": "nothing"},
    ],
)
def test_values_that_are_none_of_a_graph_are_refused(value: Any) -> None:
    description, tensors = linear()
    next(node for node in description["nodes"] if node["op"] == "call_function")["args"][0] = value
    with pytest.raises(InputError, match="is no value of a graph; make the student again"):
        build_graph(description, tensors)


class FixedRows(nn.Module):
    """Works at any number of rows, but its trace does not."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if len(x) == 1 else x.cumsum(0)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class OwnOperator(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.shape[0] > 3, lambda y: y + 1, lambda y: y - 1, (x,))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            FixedRows(),
            r"FixedRows does not do what the model does with twice the rows given: .* Give inputs of at least 2",
        ),
        (Branch(), r"Branch cannot be traced with the inputs given: .*architecture="),
        (OwnOperator(), r"holds true_graph_0 of type .*, which a graph file cannot hold"),
    ],
)
def test_what_a_graph_file_cannot_hold_is_said(model: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        describe_graph(trace_plain(model, {"x": torch.randn(4, 3)}))


def test_inputs_of_one_row_are_refused_where_the_trace_is_tied_to_it() -> None:
    with pytest.raises(InputError, match="does not do what the model does with twice the rows given"):
        trace_plain(Conv(), {"x": torch.randn(1, 3, 8, 8)})
