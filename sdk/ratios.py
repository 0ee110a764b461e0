"""How many times faster one of two is: paired ratios of reports that were measured in turns."""

import random
from statistics import median

from pydantic import BaseModel, ConfigDict

from edgefold.errors import InputError
from edgefold.percentiles import percentile
from edgefold.reports import Basis, Report

BOOTSTRAP_ROUNDS = 2000
CLEAR_FROM_BLOCKS = 6
"""With fewer, all block ratios fall on one side of 1 by chance more often than 5 % of the time: 2 / 2**5 = 6 %."""


class Ratio(BaseModel):
    """How many times faster a candidate is than a baseline, with a 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float
    blocks: int
    basis: Basis

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 1, and enough blocks stand behind it."""
        return self.blocks >= CLEAR_FROM_BLOCKS and (self.low > 1 or self.high < 1)

    def __str__(self) -> str:
        if self.blocks < CLEAR_FROM_BLOCKS:
            return f"not told: {self.blocks} blocks, at least {CLEAR_FROM_BLOCKS} are needed; measure for longer"
        if not self.is_clear:
            return f"not told from 1 ({self.low:.2f} to {self.high:.2f}, {self.basis} time, {self.blocks} blocks)"
        return f"{self.value:.2f}x ({self.low:.2f} to {self.high:.2f}, {self.basis} time, {self.blocks} blocks)"


def paired_ratio(baseline: Report, candidate: Report, basis: Basis | None = None, seed: int = 0) -> Ratio:
    """Median over blocks of baseline time / candidate time, block medians each; above 1 the candidate is faster.

    The two must have been measured together, block by block, so that a slow moment of the machine strikes both. The
    interval is a seeded bootstrap over blocks.

    Args:
        basis: CPU time ignores other processes; the default for single-threaded CPU sessions, wall time for all else.

    Raises:
        InputError: the reports come from two measurements, or have no blocks in common.
    """
    if not measured_together(baseline, candidate):
        raise InputError(
            f"{baseline.label} and {candidate.label} were not measured together, so no ratio of theirs can be trusted; "
            "measure both in one run."
        )
    basis = basis or ratio_basis(baseline, candidate)
    a, b = _block_medians(baseline, basis), _block_medians(candidate, basis)
    shared = sorted(a.keys() & b.keys())
    ratios = [a[block] / b[block] for block in shared]
    generator = random.Random(seed)
    resampled = sorted(median(generator.choices(ratios, k=len(ratios))) for _ in range(BOOTSTRAP_ROUNDS))
    low, high = percentile(resampled, 2.5), percentile(resampled, 97.5)
    return Ratio(value=median(ratios), low=low, high=high, blocks=len(shared), basis=basis)


def measured_together(one: Report, other: Report) -> bool:
    """Whether the two took turns in one run."""
    same_run = (one.before, one.after) == (other.before, other.after)  # every measurement counts its blocks from 0
    return same_run and not set(one.blocks).isdisjoint(other.blocks)


def ratio_basis(one: Report, other: Report) -> Basis:
    """CPU time for single-threaded CPU sessions, as it ignores other processes; wall time for all else."""
    return "cpu" if _is_one_thread(one) and _is_one_thread(other) else "wall"


def _block_medians(report: Report, basis: Basis) -> dict[int, float]:
    times: dict[int, list[float]] = {}
    for block, time in zip(report.blocks, report.cpu_times_s if basis == "cpu" else report.times_s, strict=True):
        times.setdefault(block, []).append(time)
    return {block: median(values) for block, values in times.items()}


def _is_one_thread(report: Report) -> bool:
    return report.device == "cpu" and report.settings.get("threads") == 1 and report.concurrency == 1
