"""Laws of the maps: what they keep, what they lose, and that the starts are the optima they claim."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgefold.calibration import Moments
from edgefold.projections import (
    Projection,
    Selection,
    compose,
    most_important,
    principal_directions,
    reader_importance,
    whitened_factors,
)
from edgefold.resizing.layouts import Factor, copies, resized_shape


def moments_of(rows: torch.Tensor) -> Moments:
    moments = Moments(rows.shape[1])
    moments.add(rows)
    return moments


def correlated(n: int, size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.randn(n, size, generator=generator, dtype=torch.float64) @ mix + 1


@settings(max_examples=20, deadline=None)
@given(size=st.integers(2, 12), kept=st.integers(1, 12))
def test_principal_directions_are_orthonormal(size: int, kept: int) -> None:
    kept = min(size, kept)
    directions = principal_directions([moments_of(correlated(40, size)).covariance], kept)
    torch.testing.assert_close(directions.T @ directions, torch.eye(kept, dtype=torch.float64))


def test_principal_directions_keep_the_most_variance() -> None:
    moments = moments_of(correlated(200, 10))
    directions = principal_directions([moments.covariance], 4)
    kept = (directions.T @ moments.covariance @ directions).trace()
    torch.testing.assert_close(kept, torch.linalg.eigvalsh(moments.covariance)[-4:].sum())


def test_the_direction_a_layer_norm_discards_carries_the_least_variance() -> None:
    moments = moments_of(correlated(200, 10))
    small = (
        principal_directions([moments.covariance], 4).T
        @ moments.covariance
        @ principal_directions([moments.covariance], 4)
    )
    ones = torch.full((4,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(ones @ small @ ones, torch.linalg.eigvalsh(moments.covariance)[-4])


def test_full_size_is_the_identity() -> None:
    torch.testing.assert_close(
        principal_directions([moments_of(correlated(30, 5)).covariance], 5), torch.eye(5, dtype=torch.float64)
    )


def test_compose_is_the_matrix_product() -> None:
    weight = torch.randn(6, 8, dtype=torch.float64)
    p, q = torch.randn(8, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    layout = ((Factor("b", 6),), (Factor("a", 8),))
    maps = {"a": Projection(p), "b": Projection(q)}
    torch.testing.assert_close(compose(weight, layout, maps), q.T @ weight @ p)


def test_compose_selects_whole_heads() -> None:
    weight = torch.arange(12 * 2).reshape(12, 2)
    layout = ((Factor("heads", 3), Factor("head_dim", 4)), (Factor("hidden", 2),))
    kept = compose(weight, layout, {"heads": Selection(torch.tensor([0, 2]))})
    assert torch.equal(kept, torch.cat([weight[:4], weight[8:]]))


def test_compose_maps_the_parts_of_a_sum() -> None:
    """Fused query, key and value: each block of rows through its own maps."""
    weight = torch.randn(8, 3, dtype=torch.float64)
    wide, narrow = (Factor("heads", 2), Factor("head_dim", 2)), (Factor("groups", 2),)
    layout = ((Factor("", 8, (wide, narrow, narrow)),), (Factor("hidden", 3),))
    p = Projection(torch.randn(2, 1, dtype=torch.float64))
    found = compose(weight, layout, {"heads": Selection(torch.tensor([1])), "groups": p})
    expected = torch.cat([weight[2:4], p.matrix.T @ weight[4:6], p.matrix.T @ weight[6:]])
    torch.testing.assert_close(found, expected)
    assert found.shape == resized_shape(layout, {"heads": 1, "groups": 1})


def test_copies_are_found_in_products_and_sums() -> None:
    product = (Factor("a", 2), Factor("b", 3))
    assert copies(product, "a").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert copies(product, "b").tolist() == [[0, 3], [1, 4], [2, 5]]
    assert copies((Factor("", 5, ((Factor("c", 3),), (Factor("a", 2),))),), "a").tolist() == [[3], [4]]
    assert copies((Factor("", 4, ((Factor("a", 2),), (Factor("a", 2),))),), "a").tolist() == [[0, 2], [1, 3]]


def test_importance_is_the_energy_each_coordinate_adds() -> None:
    """Without correlation it is E[x_i^2] |W_i|^2; for a head it is the energy of the head's whole contribution."""
    x = correlated(100, 6)
    weight = torch.randn(4, 6, dtype=torch.float64)
    factors = (Factor("heads", 3), Factor("head_dim", 2))
    found = reader_importance(moments_of(x), weight, factors, "heads")
    expected = torch.stack(
        [(x[:, [2 * i, 2 * i + 1]] @ weight[:, [2 * i, 2 * i + 1]].T).square().sum(1).mean() for i in range(3)]
    )
    torch.testing.assert_close(found, expected)


def test_most_important_keeps_order() -> None:
    assert most_important(torch.tensor([1.0, 9.0, 3.0, 7.0]), 2).indices.tolist() == [1, 3]


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_whitened_factors_are_optimal_for_the_inputs(rank: int) -> None:
    """The loss E|Wx - BAx|^2 equals the cut singular values of W S, and plain SVD does not do better."""
    x = correlated(300, 6)
    weight = torch.randn(5, 6, dtype=torch.float64)
    moment = x.T @ x / len(x)
    left, right = whitened_factors(weight, moment, rank)

    def loss(approximation: torch.Tensor) -> torch.Tensor:
        return (x @ (weight - approximation).T).square().sum(1).mean()

    root = torch.linalg.cholesky(moment)
    cut = torch.linalg.svdvals(weight @ root)[rank:].square().sum()
    torch.testing.assert_close(
        loss(left @ right), cut, rtol=1e-4, atol=1e-8
    )  # the spectrum is guarded at 1e-6 of its mean
    u, s, vt = torch.linalg.svd(weight, full_matrices=False)
    assert loss(left @ right) <= loss(u[:, :rank] * s[:rank] @ vt[:rank]) + 1e-9


def test_a_singular_moment_does_no_harm() -> None:
    x = torch.cat([correlated(50, 3), torch.zeros(50, 2, dtype=torch.float64)], dim=1)
    left, right = whitened_factors(torch.randn(4, 5, dtype=torch.float64), x.T @ x / 50, 3)
    assert torch.isfinite(left).all()
    assert torch.isfinite(right).all()


def test_diagonal_and_full_moments_agree() -> None:
    weight = torch.randn(4, 5, dtype=torch.float64)
    diagonal = torch.rand(5, dtype=torch.float64) + 0.1
    products = [a @ b for a, b in (whitened_factors(weight, m, 2) for m in (diagonal, torch.diag(diagonal)))]
    torch.testing.assert_close(*products)


@pytest.mark.parametrize("moment", [torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)])
def test_where_nothing_is_read_factors_are_those_of_the_weight_alone(moment: Tensor) -> None:
    """Values that never vary, as of one position in every sample."""
    weight = torch.randn(4, 5, dtype=torch.float64)
    left, right = whitened_factors(weight, moment, 2)
    u, sigma, vt = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(left @ right, (u[:, :2] * sigma[:2]) @ vt[:2])
