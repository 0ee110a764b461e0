"""Reports of a machine that is not there, for tests of what is made of reports."""

from typing import Any

from edgefold.device_states import DeviceState
from edgefold.reports import Report

STATE = DeviceState(
    processor="Made-up CPU",
    instruction_sets=("avx2",),
    cores=2,
    governor=None,
    load_average=(0.0, 0.0, 0.0),
    cpu_limit=None,
    system="Linux",
    versions={"numpy": "2"},
    taken_at="2025-01-01T00:00:00+00:00",
)


def make_report(values: list[float] | None = None, blocks: list[int] | None = None, **fields: Any) -> Report:
    """Wall and CPU times are the same, and one block holds them all, unless said otherwise."""
    values = [1e-3] * 3 if values is None else values
    given: dict[str, Any] = {
        "label": "tiny",
        "runtime": "onnxruntime",
        "device": "cpu",
        "precision": "fp32",
        "model_sha256": None,
        "batch_size": 1,
        "shapes": {"input_ids": (1, 8)},
        "times_s": values,
        "cpu_times_s": values,
        "blocks": [0] * len(values) if blocks is None else blocks,
        "load_s": 0.1,
        "first_run_s": 0.2,
        "warmup_runs": 11,
        "settings": {"threads": 1, "spinning": False},
        "before": STATE,
        "after": STATE,
    }
    return Report(**{**given, **fields})
