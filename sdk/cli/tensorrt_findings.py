"""What `edgefold doctor` finds of NVIDIA's: the GPU, a TensorRT, and the CUDA runtime that a session needs."""

from edgefold.cli.findings import Finding
from edgefold.errors import DeviceError
from edgefold.nvidia_driver import read_gpu
from edgefold.runtimes.cudart import find_cudart
from edgefold.tensorrt_modules import BUILDERS, RUNNERS, describe, import_tensorrt, is_rtx

GET_TENSORRT = (
    "optional: pip install tensorrt; on a Jetson apt install python3-libnvinfer; RTX: pip install "
    "'edgefold[tensorrt-rtx]'"
)


def examine_nvidia() -> list[Finding]:
    """One line each; what is missing beside a GPU is worth advice, without one it is optional."""
    gpu = read_gpu()
    shown = f"{gpu.name}, compute capability {gpu.compute_capability}, CUDA {gpu.driver}" if gpu else "none visible"
    return [Finding("NVIDIA GPU", shown, True), _tensorrt(gpu is not None), *(_cudart() if gpu else [])]


def _tensorrt(has_gpu: bool) -> Finding:
    try:
        module = import_tensorrt(RUNNERS)
    except DeviceError:
        return Finding("TensorRT", "not installed", not has_gpu, GET_TENSORRT)
    does = "builds and runs engines" if module.__name__ in BUILDERS or hasattr(module, "Builder") else "runs engines"
    if not has_gpu:
        does = "compiles for RTX GPUs, runs nothing" if is_rtx(module) else "needs a GPU"
    return Finding("TensorRT", f"{describe(module)} ({module.__name__}): {does}", True)


def _cudart() -> list[Finding]:
    try:
        return [Finding("libcudart", find_cudart()[0], True)]
    except DeviceError as error:
        return [Finding("libcudart", "not found", False, str(error))]
