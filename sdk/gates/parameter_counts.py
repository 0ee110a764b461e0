"""How many parameters a network has when some coordinates of its dimensions are left out."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from edgefold.resizing.layouts import Factor, Layout, layout_names

Monomial = tuple[str, ...]
"""The dimensions whose counts are multiplied, in order; one that runs along two axes stands there twice."""


@dataclass(frozen=True)
class ParameterCount:
    """sum over weights of the product over their axes of the coordinates left there, as a polynomial in the counts.

    A neuron's cost is thus that of the open coordinates it is joined with. At expected counts it is the expected size,
    for gates are independent; of a dimension along two axes of one weight the variance of its count is left out.
    """

    terms: Mapping[Monomial, int]

    def of(self, counts: Mapping[str, Tensor]) -> Tensor:
        """The number of parameters at these counts of open coordinates by dimension (scalars, or all of one shape)."""
        total: Tensor | None = None
        for monomial, coefficient in self.terms.items():
            term = coefficient * counts[monomial[0]]
            for name in monomial[1:]:
                term = term * counts[name]
            total = term if total is None else total + term
        assert total is not None
        return total


def count_parameters(
    layouts: Mapping[str, Layout], names: Iterable[str], dimensions: Collection[str]
) -> ParameterCount:
    """The polynomial of all these parameters that run along one of the dimensions; the others are no part of it.

    Args:
        layouts: of each parameter. names: of those that count, each once.
    """
    terms: Counter[Monomial] = Counter()
    for name in names:
        if not layout_names(layouts.get(name, ())).isdisjoint(dimensions):
            terms += _product(_axis(axis, dimensions) for axis in layouts[name])
    return ParameterCount(dict(terms))


def _axis(axis: Sequence[Factor], dimensions: Collection[str]) -> Counter[Monomial]:
    """The length of one axis."""
    return _product(_factor(factor, dimensions) for factor in axis)


def _factor(factor: Factor, dimensions: Collection[str]) -> Counter[Monomial]:
    if factor.parts:
        return sum((_axis(part, dimensions) for part in factor.parts), Counter[Monomial]())
    return Counter({(factor.dimension,): 1} if factor.dimension in dimensions else {(): factor.size})


def _product(polynomials: Iterable[Counter[Monomial]]) -> Counter[Monomial]:
    product: Counter[Monomial] = Counter({(): 1})
    for other in polynomials:
        terms: Counter[Monomial] = Counter()
        for one, a in product.items():
            for two, b in other.items():
                terms[tuple(sorted((*one, *two)))] += a * b
        product = terms
    return product
