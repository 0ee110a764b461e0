"""ONNX Runtime on a CPU, this machine's or another's, or on this machine's NVIDIA GPU, as the target of a search."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from edgefold.artifacts import Artifact
from edgefold.budget.latency_tables import Timing
from edgefold.device_states import DeviceState
from edgefold.errors import InputError
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.fingerprints import fingerprint_model
from edgefold.reports import Report
from edgefold.runtimes import benchmark_artifacts, example_inputs, read_device_state, read_remote_state
from edgefold.runtimes.provider_probe import check_gpu

Precision = Literal["fp32", "fp16", "int8"]
GPU = "cuda"
ON_GPU = ("fp32", "fp16")
"""ONNX Runtime's CUDA provider leaves dynamic int8 to the CPU."""
ON_CPU = ("fp32", "int8")


class OnnxRuntimeTarget:
    """Exports models and measures each in turns with the teacher.

    On a CPU's one thread in processor time, so that others' load counts less; else by the clock on the wall, on a GPU
    with inputs and outputs that are copied by way of pinned memory. int8 is dynamic: what costs no calibration tells
    plans apart as well.

    Args:
        cuda_graph: whether a GPU is given a run's kernels as one graph. One by one, launching the kernels of a small
            model takes longer than computing them, and narrower layers save nothing.

    Raises:
        InputError: a precision that the device does not run, or a graph on a device without.
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
        cuda_graph: bool = False,
    ) -> None:
        check_runs_there(precision, device, cuda_graph)
        self._module, self._folder, self._precision = teacher, folder, precision
        self._batch, self._sequence, self._threads, self._device = batch, sequence, threads, device
        self._cuda_graph = cuda_graph
        self._teacher: Artifact | None = None
        self._count = 0

    def __call__(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Timing:
        teacher = self._teacher = self._teacher or self._export(self._module, inputs)
        feeds = example_inputs(
            teacher.inputs,
            batch=self._batch,
            sequence=self._sequence,
            vocab_size=teacher.vocab_size,
            limits={name: int(v.max()) + 1 for name, v in inputs.items() if not v.is_floating_point()}
            if teacher.vocab_size is None
            else {},
        )
        artifacts = {"teacher": teacher, "student": self._export(module, inputs)}
        reports = benchmark_artifacts(
            artifacts,
            feeds,
            device=self._device,
            threads=self._threads,
            min_duration_s=0.7,
            energy_s=0.0,
            io_binding=self._device == GPU,
            cuda_graph=self._cuda_graph,
        )
        times = {name: self._seconds(report) for name, report in reports.items()}
        return Timing(seconds=times["student"], teacher_seconds=times["teacher"])

    def _seconds(self, report: Report) -> float:
        is_counted = self._threads == 1 and self._device != GPU
        return report.cpu_p50_s if is_counted else report.p50_s

    def _export(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Artifact:
        self._count += 1
        stem = self._folder / f"{self._count}"
        if self._precision == "fp16":
            return export_onnx(module.eval(), inputs, f"{stem}-fp16", precision="fp16")
        fp32 = export_onnx(module.eval(), inputs, f"{stem}-fp32")
        return fp32 if self._precision == "fp32" else quantize_onnx(fp32, f"{stem}-int8", quantization="dynamic")

    @property
    def key(self) -> dict[str, str]:
        """What its times depend on.

        Raises:
            DeviceError: the device cannot be reached, or ONNX Runtime cannot use it.
        """
        if self._device == GPU:
            check_gpu()
        is_remote = self._device.startswith("ssh://")
        state = read_remote_state(self._device) if is_remote else read_device_state()
        return {
            "teacher": fingerprint_model(self._module),
            "precision": self._precision,
            "shape": f"{self._batch} x {self._sequence}",
            "threads": str(self._threads),
            "runtime": _runtime(state),
            "device": f"{self._device} {_name(state, self._device)}",
            **({"launches": "CUDA graph"} if self._cuda_graph else {}),
        }


def check_runs_there(precision: str, device: str, cuda_graph: bool = False) -> None:
    """Whether students can be measured so on that device.

    Raises:
        InputError: they cannot.
    """
    if cuda_graph and device != GPU:
        raise InputError(f"A CUDA graph is launched on an NVIDIA GPU alone, device={GPU!r}; got device={device!r}.")
    taken = ON_GPU if device == GPU else ON_CPU
    if precision not in taken:
        raise InputError(f"On {device} a search measures {' or '.join(taken)}; got precision {precision!r}.")


def _runtime(state: DeviceState) -> str:
    """The builds of ONNX Runtime there; that for GPUs has a name of its own."""
    return ", ".join(f"{name} {number}" for name, number in state.versions.items() if name.startswith("onnxruntime"))


def _name(state: DeviceState, device: str) -> str:
    if device == GPU:
        return ", ".join([*(f"{gpu.name}, driver {gpu.driver}" for gpu in state.gpus[:1]), state.processor])
    return f"{state.processor}, {' '.join(state.instruction_sets)}"
