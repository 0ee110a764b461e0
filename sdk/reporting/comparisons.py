"""Comparing reports: the paired ratio where two took turns; else what differs, and what may still be said."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from edgefold.ratios import Ratio, measured_together, paired_ratio, ratio_basis
from edgefold.reports import Basis, Report

Kind = Literal["paired", "cautious", "none"]
OF_THE_MODEL = ("nodes", "version")
"""Settings that follow from the model, or that the versions of packages tell already."""
OF_THE_MOMENT = (
    "load_average",
    "taken_at",
    "mhz",
    "throttle_count",
    "held_back_s",
    "stolen_s",
    "versions",
    "jetson",
    "emulated",
    "gpus",
)
"""What a device's state tells of one moment, or what is looked at by itself."""


class MedianRatio(BaseModel):
    """Median of one measurement over that of another, with the bounds that their 95 % intervals give together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float
    basis: Basis

    def __str__(self) -> str:
        return f"{self.value:.2f}x ({self.low:.2f} to {self.high:.2f}, medians of {self.basis} time)"


class Comparison(BaseModel):
    """How many times faster one report's model is than another's, as far as that can be said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidate: str
    baseline: str
    kind: Kind
    ratio: Ratio | None = None
    """Where the two were measured in turns."""
    medians: MedianRatio | None = None
    """Where they were not, but the model, or all else, is the same."""
    same_model: bool
    differing: dict[str, tuple[str, str]]
    """Fact -> the candidate's and the baseline's."""

    def __str__(self) -> str:
        if self.ratio is not None:
            return f"Speed of {self.candidate} against {self.baseline}: {self.ratio}"
        listed = "; ".join(f"{name} {one} against {other}" for name, (one, other) in self.differing.items())
        if self.medians is None:
            what = f"differ in {listed}" if self.same_model else f"are different models, and differ in {listed}"
            advice = "" if self.same_model else " Measure both in one run: edgefold bench ONE --against OTHER."
            return f"{self.candidate} and {self.baseline} are not comparable: they {what}.{advice}"
        cause = f" The model is the same; what differs is {listed}." if listed else ""
        return (
            f"Speed of {self.candidate} against {self.baseline}, with caution: {self.medians}; they were not measured "
            f"in turns, so a slow moment of the machine may have struck one of them only.{cause}"
        )


def compare_reports(candidate: Report, baseline: Report) -> Comparison:
    """The paired ratio of two that were measured in turns. Otherwise the ratio of their medians, provided that only one
    thing could explain it: the model, or the conditions.
    """
    facts: dict[str, Any] = {
        "candidate": candidate.label,
        "baseline": baseline.label,
        "same_model": candidate.model_sha256 is not None and candidate.model_sha256 == baseline.model_sha256,
        "differing": find_differences(candidate, baseline),
    }
    if measured_together(candidate, baseline):
        return Comparison(**facts, kind="paired", ratio=paired_ratio(baseline, candidate))
    same_inputs = candidate.shapes == baseline.shapes
    if not same_inputs or (facts["differing"] and not facts["same_model"]):
        return Comparison(**facts, kind="none")
    return Comparison(**facts, kind="cautious", medians=_divide_medians(baseline, candidate))


def pair_up(files: Sequence[Sequence[Report]]) -> list[tuple[Report, Report]]:
    """Which reports are worth comparing, as (candidate, baseline): within a run the first with each other one, as
    `edgefold bench` does, and from file to file each with its counterpart in the first.
    """
    pairs = []
    for file in files:
        for index, report in enumerate(file):
            first = next(other for other in file if other is report or measured_together(other, report))
            if first is not report and first in file[:index]:
                pairs.append((first, report))
    return pairs + [(_counterpart(report, files[0]), report) for file in files[1:] for report in file]


def find_differences(one: Report, other: Report) -> dict[str, tuple[str, str]]:
    """What was not the same when the two were measured, beside the model: fact -> both values in words."""
    first, second = _conditions(one), _conditions(other)
    names = [*first, *(name for name in second if name not in first)]
    if one.runtime != other.runtime:  # each has settings of its own
        names = [name for name in names if name in first and name in second]
    pairs = {name: (first.get(name, "not told"), second.get(name, "not told")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _conditions(report: Report) -> dict[str, str]:
    state = report.before
    facts: dict[str, Any] = {
        "inputs": ", ".join(f"{name} {_shape(shape)}" for name, shape in report.shapes.items()),
        "sessions at a time": report.concurrency,
        "runtime": report.runtime,
        "device": report.device,
        "address": report.address or "the machine itself",
        **{name: value for name, value in state.model_dump().items() if name not in OF_THE_MOMENT},
        **{f"version of {name}": state.versions[name] for name in state.versions if _takes_part(name, report.runtime)},
        **{f"Jetson {name}": value for name, value in (state.jetson.model_dump() if state.jetson else {}).items()},
        **({"GPUs": [(gpu.name, gpu.driver, gpu.power_limit_w) for gpu in state.gpus]} if state.gpus else {}),
        **{name: value for name, value in report.settings.items() if name not in OF_THE_MODEL},
    }
    return {name.replace("_", " "): _say(value) for name, value in facts.items()}


def _takes_part(package: str, runtime: str) -> bool:
    """Whether its version decides about times; other runtimes may be installed."""
    return package.startswith((runtime, "edgefold", "numpy"))


def _divide_medians(baseline: Report, candidate: Report) -> MedianRatio:
    basis = ratio_basis(baseline, candidate)
    above, below = (report.p50_of(basis) for report in (baseline, candidate))
    (above_low, above_high), (below_low, below_high) = (r.p50_interval_of(basis) for r in (baseline, candidate))
    return MedianRatio(value=above / below, low=above_low / below_high, high=above_high / below_low, basis=basis)


def _counterpart(report: Report, others: Sequence[Report]) -> Report:
    """The one of the same model on the same inputs; else on the same inputs; else the first."""
    alike = [other for other in others if other.shapes == report.shapes]
    same = [other for other in alike if other.model_sha256 == report.model_sha256]
    return next(iter([*same, *alike, *others]))


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape) or "scalar"


def _say(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "not told" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
