"""Penalties: terms that draw weights, projections or activations towards something simpler, one per file."""

from collections.abc import Iterable

from edgefold.errors import InputError
from edgefold.penalties.activation_l1 import ActivationL1
from edgefold.penalties.elastic_net import ElasticNet
from edgefold.penalties.group_lasso import GroupLasso
from edgefold.penalties.l1 import L1
from edgefold.penalties.l2 import L2
from edgefold.penalties.nuclear_norm import NuclearNorm
from edgefold.penalties.orthogonality import Orthogonality
from edgefold.penalties.protocols import Penalty, WeightPenalty

PENALTIES: dict[str, type[Penalty]] = {
    "l1": L1,
    "l2": L2,
    "elastic_net": ElasticNet,
    "nuclear_norm": NuclearNorm,
    "group_lasso": GroupLasso,
    "orthogonality": Orthogonality,
    "activation_l1": ActivationL1,
}
"""Key in a recipe, and name of the term in the log -> the penalty."""

__all__ = [
    "L1",
    "L2",
    "PENALTIES",
    "ActivationL1",
    "ElasticNet",
    "GroupLasso",
    "NuclearNorm",
    "Orthogonality",
    "Penalty",
    "WeightPenalty",
    "check_penalties",
]


def check_penalties(penalties: Iterable[object]) -> tuple[Penalty, ...]:
    """The penalties as a tuple.

    Raises:
        InputError: something is none of `PENALTIES`.
    """
    checked = []
    for penalty in penalties:
        if type(penalty) not in PENALTIES.values():
            names = ", ".join(kind.__name__ for kind in PENALTIES.values())
            raise InputError(f"penalties holds {penalty!r}; it takes instances of {names}.")
        assert isinstance(penalty, Penalty)
        checked.append(penalty)
    return tuple(checked)
