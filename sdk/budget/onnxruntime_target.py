"""ONNX Runtime on a CPU, this machine's or another's, as the target of a search."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from edgefold.artifacts import Artifact
from edgefold.budget.latency_tables import Timing
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.fingerprints import fingerprint_model
from edgefold.runtimes import benchmark_artifacts, example_inputs, read_device_state, read_remote_state

Precision = Literal["fp32", "int8"]


class OnnxRuntimeTarget:
    """Exports models and measures each in turns with the teacher; on one thread in processor time, so that others' load
    counts less.

    int8 is dynamic: what costs no calibration tells plans apart as well.
    """

    def __init__(
        self,
        teacher: nn.Module,
        folder: Path,
        precision: Precision,
        *,
        batch: int,
        sequence: int,
        threads: int,
        device: str = "cpu",
    ) -> None:
        self._module, self._folder, self._precision = teacher, folder, precision
        self._batch, self._sequence, self._threads, self._device = batch, sequence, threads, device
        self._teacher: Artifact | None = None
        self._count = 0

    def __call__(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Timing:
        teacher = self._teacher = self._teacher or self._export(self._module, inputs)
        feeds = example_inputs(
            teacher.inputs, batch=self._batch, sequence=self._sequence, vocab_size=teacher.vocab_size
        )
        artifacts = {"teacher": teacher, "student": self._export(module, inputs)}
        reports = benchmark_artifacts(
            artifacts, feeds, device=self._device, threads=self._threads, min_duration_s=0.7, energy_s=0.0
        )
        times = {name: report.cpu_p50_s if self._threads == 1 else report.p50_s for name, report in reports.items()}
        return Timing(seconds=times["student"], teacher_seconds=times["teacher"])

    def _export(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Artifact:
        self._count += 1
        stem = self._folder / f"{self._count}"
        fp32 = export_onnx(module.eval(), inputs, f"{stem}-fp32")
        return fp32 if self._precision == "fp32" else quantize_onnx(fp32, f"{stem}-int8", quantization="dynamic")

    @property
    def key(self) -> dict[str, str]:
        """What its times depend on.

        Raises:
            DeviceError: the device cannot be reached.
        """
        is_remote = self._device.startswith("ssh://")
        state = read_remote_state(self._device) if is_remote else read_device_state()
        return {
            "teacher": fingerprint_model(self._module),
            "precision": self._precision,
            "shape": f"{self._batch} x {self._sequence}",
            "threads": str(self._threads),
            "runtime": f"onnxruntime {state.versions.get('onnxruntime', '')}",
            "device": f"{self._device} {state.processor}, {' '.join(state.instruction_sets)}",
        }
