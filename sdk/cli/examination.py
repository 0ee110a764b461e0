"""What `edgefold doctor` finds on this machine, and the advice that follows; torch is looked up, never imported."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgefold.cli.answers import Answer
from edgefold.cli.tables import make_table
from edgefold.runtimes.devices import read_device_state

PACKAGES = {
    "torch": ("torch",),
    "transformers": ("transformers",),
    "accelerate": ("accelerate",),
    "safetensors": ("safetensors",),
    "onnx": ("onnx",),
    "onnxscript": ("onnxscript",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "matplotlib": ("matplotlib",),
}
"""What is imported -> the distributions that may bring it."""
NEEDED_FOR = {
    "train": ("inspect, compress", ("torch", "transformers", "accelerate", "safetensors")),
    "export": ("export", ("onnx", "onnxscript", "onnxruntime")),
    "onnxruntime": ("bench, verify", ("onnxruntime",)),
}
"""Extra -> the commands that need it, and its packages."""
INT8_FAST = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    what: str
    found: str
    works: bool
    advice: str = ""


def examine() -> Answer:
    """Every finding, those that need something done with their advice."""
    findings = [_python(), *_packages(), *_onnxruntime(), *_processor()]
    rows = [(f.what, f.found, "ok" if f.works else "!", f.advice) for f in findings]
    document = {"findings": [asdict(finding) for finding in findings]}
    return Answer(document, (make_table("This machine", ("what", "found", "", "what to do"), rows),))


def _python() -> Finding:
    return Finding("python", f"{platform.python_version()} on {platform.machine()}", sys.version_info >= (3, 10))


def _packages() -> list[Finding]:
    return [Finding("edgefold", version("edgefold"), True), *(_package(name) for name in PACKAGES)]


def _package(name: str) -> Finding:
    found = [f"{distribution} {number}" for distribution in PACKAGES[name] if (number := find_version(distribution))]
    if found:
        return Finding(name, ", ".join(found), True)
    extras = [(extra, commands) for extra, (commands, packages) in NEEDED_FOR.items() if name in packages]
    if not extras:
        return Finding(name, "not installed", True, "optional: pip install 'edgefold[report]'")
    needed = "; ".join(f"{commands}: pip install 'edgefold[{extra}]'" for extra, commands in extras)
    return Finding(name, "not installed", False, f"for {needed}")


def find_version(distribution: str) -> str | None:
    """The installed version, without importing anything."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _onnxruntime() -> list[Finding]:
    """The execution providers, which only the runtime itself can name."""
    if not any(map(find_version, PACKAGES["onnxruntime"])):
        return []
    try:
        import onnxruntime
    except Exception as error:
        advice = "reinstall it: pip install --force-reinstall onnxruntime"
        return [Finding("onnxruntime providers", f"cannot be imported: {' '.join(str(error).split())}", False, advice)]
    providers: list[str] = onnxruntime.get_available_providers()
    has_gpu = Path("/proc/driver/nvidia/version").exists()
    if has_gpu and "CUDAExecutionProvider" not in providers:
        advice = "an NVIDIA GPU is here: pip uninstall onnxruntime; pip install onnxruntime-gpu"
        return [Finding("onnxruntime providers", ", ".join(providers), False, advice)]
    return [Finding("onnxruntime providers", ", ".join(providers), True)]


def _processor() -> list[Finding]:
    state = read_device_state()
    cores = f"{state.processor}, {state.cores} cores"
    limit = "" if state.cpu_limit is None else f", limited to {state.cpu_limit:g} by its control group"
    return [Finding("processor", cores + limit, True), _int8(state.instruction_sets), _governor(state.governor)]


def _int8(instruction_sets: Sequence[str]) -> Finding:
    """Whether this processor multiplies int8 with one instruction."""
    fast = [name for name in instruction_sets if name in INT8_FAST]
    if fast:
        return Finding("int8", f"fast ({', '.join(fast)})", True)
    advice = "no VNNI or dot product: int8 gains less, and sums may saturate; check with edgefold verify and bench"
    return Finding("int8", f"no instruction of its own ({', '.join(instruction_sets) or 'none known'})", False, advice)


def _governor(governor: str | None) -> Finding:
    if governor is None:
        return Finding("frequency governor", "not visible (a virtual machine?)", True)
    advice = "" if governor == "performance" else "for steady latencies: sudo cpupower frequency-set -g performance"
    return Finding("frequency governor", governor, governor == "performance", advice)
