"""Budgets as users write them: latency=5ms, speedup=4x, size=10MB, flops=200M."""

import re
from dataclasses import dataclass
from typing import Literal

from edgefold.budget.costs import Cost
from edgefold.errors import InputError

Kind = Literal["latency", "speedup", "size", "flops"]
UNITS: dict[str, dict[str, float]] = {
    "latency": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6},
    "speedup": {"x": 1.0, "": 1.0},
    "size": {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30},
    "flops": {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12},
}
EXAMPLES = "latency=5ms, speedup=4x, size=10MB or flops=200M"
BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
"""Of a weight, in a file of that precision."""


@dataclass(frozen=True)
class Budget:
    """What a student may cost."""

    kind: Kind
    value: float
    """Seconds, times faster than the teacher, bytes of weights, or floating-point operations of one pass."""

    def __str__(self) -> str:
        return {
            "latency": f"latency {self.value * 1e3:.4g} ms",
            "speedup": f"{self.value:.4g} times the teacher's speed",
            "size": f"{self.value / 1e6:.4g} MB of weights",
            "flops": f"{self.value / 1e6:.4g} million floating-point operations",
        }[self.kind]

    @property
    def is_timed(self) -> bool:
        """Whether a clock decides."""
        return self.kind in ("latency", "speedup")

    def limit(self, teacher_seconds: float) -> float:
        """The most that `spent` may be: seconds, bytes or operations."""
        return teacher_seconds / self.value if self.kind == "speedup" else self.value

    def spent(self, cost: Cost, seconds: float, precision: str) -> float:
        """What a student uses of the budget: a multiply-add is two operations."""
        if self.is_timed:
            return seconds
        return float(cost.parameters * BYTES[precision]) if self.kind == "size" else 2 * (cost.macs + cost.pair_macs)


def parse_budget(text: str) -> Budget:
    """Read a budget.

    Raises:
        InputError: an unknown kind or unit, or no number above 0.
    """
    kind, equals, value = text.partition("=")
    if not equals or kind not in UNITS:
        raise InputError(f"The budget {text!r} is not known; write {EXAMPLES}.")
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([^\d\s]*)\s*", value)
    units = UNITS[kind]
    if found is None or found[2] not in units or not 0 < float(found[1]) < float("inf"):
        known = ", ".join(unit or "nothing" for unit in units)
        raise InputError(f"The budget {text!r} needs a number above 0 and a unit ({known}); write {EXAMPLES}.")
    return Budget(kind, float(found[1]) * units[found[2]])  # type: ignore[arg-type]
