"""Which weights a penalty acts on, and that what is read is written back where it came from."""

from collections.abc import Callable
from typing import Any

import families
import pytest
import torch
from torch import nn

from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.penalized_weights import Piece, find_penalized, names_of_modules
from edgefold.penalties import L1, GroupLasso


def weights_of(model: nn.Module) -> dict[str, Any]:
    return dict(model.named_parameters())


def test_matrices_alone_by_glob_part_or_name(make_bert: Callable[..., Any]) -> None:
    weights = weights_of(make_bert())
    everything = [target.names for target in find_penalized(L1(1.0), weights)]
    assert everything == [(name,) for name, weight in weights.items() if weight.dim() > 1]
    query = "bert.encoder.layer.0.attention.self.query"
    for where in (query, f"{query}.weight", "*layer.0*query*"):
        assert [target.names for target in find_penalized(L1(1.0, where), weights)] == [(f"{query}.weight",)]
    assert len(find_penalized(L1(1.0, "intermediate"), weights)) == 2
    with pytest.raises(InputError, match=r"where='nowhere'.* names no trained matrix; there are bert.embeddings"):
        find_penalized(L1(1.0, "nowhere"), weights)


def test_frozen_weights_are_left_out(make_bert: Callable[..., Any]) -> None:
    model = make_bert()
    model.bert.embeddings.requires_grad_(False)
    names = [name for target in find_penalized(L1(1.0), weights_of(model)) for name in target.names]
    assert not any("embeddings" in name for name in names)


@pytest.mark.parametrize("groups", ["rows", "columns"])
def test_rows_and_columns(groups: str) -> None:
    weight = nn.Parameter(torch.arange(24.0).reshape(2, 3, 2, 2))
    (target,) = find_penalized(GroupLasso(1.0, groups), {"w": weight})
    matrix = target.gather({"w": weight})
    assert matrix.shape == ((2, 12) if groups == "rows" else (3, 8))
    expected = weight[1] if groups == "rows" else weight[:, 1]
    assert torch.equal(matrix[1], expected.reshape(-1))


@pytest.mark.parametrize(("name", "pattern"), [("bert", "heads"), ("llama", "heads.0"), ("unet", "channels.*")])
def test_a_group_is_all_that_runs_along_a_coordinate(name: str, pattern: str) -> None:
    """Emptying one group empties exactly the slices that a Select would leave out."""
    model, inputs = families.make(name)
    graph, weights = trace(model, inputs), weights_of(model)
    for target, dimension in zip(
        find_penalized(GroupLasso(1.0, pattern), weights, graph), graph.match(pattern), strict=True
    ):
        before = {key: value.detach().clone() for key, value in weights.items()}
        matrix = target.gather(weights).detach().clone()
        assert len(matrix) == dimension.size
        matrix[1] = 0
        with torch.no_grad():
            target.scatter(matrix, weights)
        assert torch.equal(target.gather(weights), matrix)
        changed = sum(int((value != before[key]).sum()) for key, value in weights.items())
        assert changed == matrix.shape[1]
        assert set(target.names) == {member.parameter for member in dimension.members if member.parameter in weights}
        model.load_state_dict(before, strict=False)


def test_places_of_a_factor_inside_an_axis() -> None:
    tensor = torch.arange(12.0).reshape(6, 2)
    piece = Piece("w", 0, torch.tensor([[0, 1], [2, 3], [4, 5]]))
    assert torch.equal(piece.read(tensor), torch.arange(12.0).reshape(3, 4))
    piece.write(torch.zeros(3, 4), tensor)
    assert not tensor.any()


class Mixing(nn.Module):
    """A residual stream that a matrix maps onto itself."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.mix, self.out = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.inner(x)
        return self.out(h + self.mix(h))


def test_what_cannot_be_grouped_is_said() -> None:
    model, inputs = Mixing().double(), {"x": torch.randn(5, 6, dtype=torch.float64)}
    graph, weights = trace(model, inputs), weights_of(model)
    with pytest.raises(InputError, match=r"Groups along hidden overlap: it runs along two axes of mix.weight; leave"):
        find_penalized(GroupLasso(1.0, "hidden"), weights, graph)
    (target,) = find_penalized(GroupLasso(1.0, "hidden", where="out"), weights, graph)
    assert target.names == ("out.weight",)
    with pytest.raises(InputError, match="No dimension matches 'ffn'"):
        find_penalized(GroupLasso(1.0, "ffn"), weights, graph)
    with pytest.raises(InputError, match=r"along dimensions, which takes example inputs; train a student made by"):
        find_penalized(GroupLasso(1.0, "ffn"), weights)
    with pytest.raises(InputError, match=r"No trained weight that where=... names runs along hidden"):
        find_penalized(GroupLasso(1.0, "hidden", where="nothing"), weights, graph)


def test_modules_by_name() -> None:
    names = ["", "a", "a.b", "c.b"]
    assert names_of_modules("b", names) == ["a.b", "c.b"]
    assert names_of_modules("a*", names) == ["a", "a.b"]
    with pytest.raises(InputError, match=r"ActivationL1\(where='z'\) names no module; there are a, a.b, c.b"):
        names_of_modules("z", names)
