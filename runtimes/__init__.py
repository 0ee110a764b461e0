"""Runtimes: open an artifact where it will run, measure it, compare it. Never imports torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgefold.runtimes.benchmarking import benchmark, benchmark_together
    from edgefold.runtimes.comparing import benchmark_artifacts
    from edgefold.runtimes.concurrency import benchmark_concurrently
    from edgefold.runtimes.devices import example_inputs, read_device_state
    from edgefold.runtimes.generation import generate
    from edgefold.runtimes.remote.measurement import read_remote_state
    from edgefold.runtimes.sequence_generation import SequenceSessions, generate_sequence, open_sequence_sessions
    from edgefold.runtimes.sessions import Session, open_session
    from edgefold.runtimes.torch_baseline import open_torch_baseline
    from edgefold.runtimes.verification import Verification, verify_outputs

_HOME = {
    "SequenceSessions": "sequence_generation",
    "Session": "sessions",
    "Verification": "verification",
    "benchmark": "benchmarking",
    "benchmark_artifacts": "comparing",
    "benchmark_concurrently": "concurrency",
    "benchmark_together": "benchmarking",
    "example_inputs": "devices",
    "generate": "generation",
    "generate_sequence": "sequence_generation",
    "open_sequence_sessions": "sequence_generation",
    "open_session": "sessions",
    "open_torch_baseline": "torch_baseline",
    "read_device_state": "devices",
    "read_remote_state": "remote.measurement",
    "verify_outputs": "verification",
}
"""Public names and the module each lives in; loaded on first use (PEP 562)."""

__all__ = [
    "SequenceSessions",
    "Session",
    "Verification",
    "benchmark",
    "benchmark_artifacts",
    "benchmark_concurrently",
    "benchmark_together",
    "example_inputs",
    "generate",
    "generate_sequence",
    "open_sequence_sessions",
    "open_session",
    "open_torch_baseline",
    "read_device_state",
    "read_remote_state",
    "verify_outputs",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgefold.runtimes' has no attribute {name!r}")
    return getattr(import_module(f"edgefold.runtimes.{_HOME[name]}"), name)
