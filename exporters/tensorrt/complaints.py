"""What a linter says: about which node, how bad, and where that is known from."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["refused", "warned"]
"""Refused: it would not be read, or as something else. Warned: slower than it could be, or at one's own risk."""


@dataclass(frozen=True)
class Complaint:
    """One thing that a TensorRT would not take, or not take well."""

    node: str
    """Its name; "" for what concerns the whole model."""
    operator: str
    """The operator, or "input", "output", "initializer", "model"."""
    verdict: Verdict
    what: str


@dataclass(frozen=True)
class Lint:
    """The answer of `lint_onnx`."""

    target: str
    model: str
    nodes: int
    complaints: tuple[Complaint, ...]

    @property
    def refused(self) -> tuple[Complaint, ...]:
        return tuple(complaint for complaint in self.complaints if complaint.verdict == "refused")

    def document(self) -> dict[str, Any]:
        """All of it, of JSON's types."""
        return {**asdict(self), "refused": len(self.refused)}
