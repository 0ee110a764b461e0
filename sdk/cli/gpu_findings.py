"""What `edgefold doctor` finds of each NVIDIA GPU by NVML, and which of ONNX Runtime's providers compute on it."""

from importlib.util import find_spec

from edgefold.cli.findings import Finding
from edgefold.gpu_states import HELD_BACK, GpuState
from edgefold.nvidia_driver import read_gpu
from edgefold.runtimes.nvidia import MODULE, read_gpu_states

GET_NVML = "for clocks and energy in reports: pip install 'edgefold[nvml]'"
ADVICE = {
    "CUDAExecutionProvider": "install CUDA and cuDNN of the versions that onnxruntime-gpu was built with: pip install "
    "'onnxruntime-gpu[cuda,cudnn]'",
    "TensorrtExecutionProvider": "optional: pip install the tensorrt release that onnxruntime-gpu was built with "
    "(libnvinfer.so.10: 'tensorrt<11')",
    "NvTensorRTRTXExecutionProvider": "optional: it is for RTX GPUs",
}


def examine_gpus() -> list[Finding]:
    """Nothing where there is no GPU."""
    if read_gpu() is None:
        return []
    if find_spec(MODULE) is None:
        return [Finding("NVML", "not installed", True, f"optional: {GET_NVML}"), *_providers()]
    states = [_describe(number, state) for number, state in enumerate(read_gpu_states())]
    return [*(states or [Finding("NVML", "tells of no GPU", False, "check the driver: nvidia-smi")]), *_providers()]


def _describe(number: int, state: GpuState) -> Finding:
    parts = [state.name, f"driver {state.driver}"]
    if state.memory_bytes is not None and state.memory_used_bytes is not None:
        parts.append(f"{state.memory_used_bytes / 1e9:.1f} of {state.memory_bytes / 1e9:.1f} GB in use")
    parts += [
        f"{name} {now} of {most} MHz"
        for name, now, most in (
            ("SM", state.sm_mhz, state.max_sm_mhz),
            ("memory", state.memory_mhz, state.max_memory_mhz),
        )
        if now is not None
    ]
    parts += [f"limit {state.power_limit_w:g} W"] if state.power_limit_w is not None else []
    parts += [f"{state.temperature_c} C"] if state.temperature_c is not None else []
    parts += [f"{state.other_processes} other processes"] if state.other_processes else []
    held = sorted(HELD_BACK & set(state.clock_reasons or ()))
    parts += [f"held back by {', '.join(held)}"] if held else []
    advice = "" if state.persistence is not False else "for quick starts: sudo nvidia-smi -pm 1"
    if state.other_processes:
        advice = "times are shared with what else runs there; stop it, or choose another by CUDA_VISIBLE_DEVICES"
    if held:
        advice = "times are those of a slowed-down card: check its power and cooling (nvidia-smi -q -d PERFORMANCE)"
    return Finding(f"GPU {number}", ", ".join(parts), not held, advice)


def _providers() -> list[Finding]:
    """onnxruntime lists what it was built with; whether the libraries are there shows when one computes."""
    if find_spec("onnxruntime") is None:
        return []
    try:
        from edgefold.runtimes.provider_probe import probe_providers
    except Exception:  # that onnxruntime cannot be imported is a finding of its own
        return []
    return [
        Finding(name, "computes", True)
        if not why
        else Finding(name, f"cannot be used: {why}", name != "CUDAExecutionProvider", ADVICE[name])
        for name, why in probe_providers()
    ]
