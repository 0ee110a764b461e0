"""What torch says while it traces is kept back, and where a trace ended in the user's code is told."""

import logging
import sys

import pytest
import torch
from torch import Tensor, nn

from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.plans import Plan, Project
from edgefold.student_building import build_student
from edgefold.tracing.quiet_tracing import quiet


class Branching(nn.Module):
    """Goes another way for other values."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        if h.sum() > 0:
            h = h * 2
        return self.out(h)


def test_what_cannot_be_traced_is_shown_and_nothing_else_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    place = r"\(test_quiet_tracing\.py:\d+: if h\.sum\(\) > 0:\): Could not guard on data-dependent expression"
    with pytest.raises(InputError, match=rf"torch\.export cannot trace Branching .* {place}"):
        trace(Branching(), {"x": torch.randn(3, 4)})
    assert capfd.readouterr() == ("", "")


def test_levels_and_streams_are_as_before() -> None:
    logger, streams = logging.getLogger("torch.export"), (sys.stdout, sys.stderr)
    level = logger.level
    with quiet():
        assert logger.level == logging.ERROR
        assert sys.stdout is not streams[0]
    assert (logger.level, sys.stdout, sys.stderr) == (level, *streams)


def test_a_calibration_batch_of_another_width_is_told() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    example, other = {"input": torch.randn(3, 4)}, {"input": torch.randn(3, 5)}
    with pytest.raises(InputError, match=r"A calibration batch \(input \(3, 5\)\) does not run .* \(3x5 and 4x8\)"):
        build_student(model, Plan([Project("hidden", 4)]), example, [other])
