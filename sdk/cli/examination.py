"""What `edgefold doctor` finds on this machine, and the advice that follows; torch is looked up, never imported."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgefold.cli.answers import Answer
from edgefold.cli.device_examination import examine_device
from edgefold.cli.findings import Finding, describe_processor
from edgefold.cli.gpu_findings import examine_gpus
from edgefold.cli.tables import make_table
from edgefold.cli.tensorrt_findings import examine_nvidia
from edgefold.errors import DeviceError
from edgefold.runtimes.devices import read_device_state

PACKAGES = {
    "torch": ("torch",),
    "transformers": ("transformers",),
    "accelerate": ("accelerate",),
    "safetensors": ("safetensors",),
    "onnx": ("onnx",),
    "onnxscript": ("onnxscript",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "openvino": ("openvino",),
    "nncf": ("nncf",),
    "matplotlib": ("matplotlib",),
}
"""What is imported -> the distributions that may bring it."""
OPTIONAL = {"openvino": "openvino", "nncf": "openvino-int8", "matplotlib": "report"}
"""What nothing else needs -> its extra."""
NEEDED_FOR = {
    "train": ("inspect, compress", ("torch", "transformers", "accelerate", "safetensors")),
    "export": ("export", ("onnx", "onnxscript", "onnxruntime")),
    "onnxruntime": ("bench, verify", ("onnxruntime",)),
}
"""Extra -> the commands that need it, and its packages."""


def examine(devices: Sequence[str] = (), clear: bool = False) -> Answer:
    """Every finding, those that need something done with their advice; status 4 where a device cannot be reached.

    Args:
        devices: addresses to look at beside this machine.
        clear: whether to empty what earlier runs left in the stores of those devices.
    """
    here = [_python(), *_packages(), *_onnxruntime(), *examine_nvidia(), *examine_gpus()]
    here += describe_processor(read_device_state())
    there = {device: examine_device(device, clear) for device in devices}
    document: dict[str, Any] = {"findings": _listed(here)}
    if devices:
        document["devices"] = {device: _listed(findings) for device, findings in there.items()}
    reached = all(findings[0].works for findings in there.values())
    tables = [_table("This machine", here), *(_table(device, findings) for device, findings in there.items())]
    return Answer(document, tuple(tables), exit_code=0 if reached else DeviceError.exit_code)


def _listed(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [asdict(finding) for finding in findings]


def _table(title: str, findings: Sequence[Finding]) -> Any:
    rows = [(f.what, f.found, "ok" if f.works else "!", f.advice) for f in findings]
    return make_table(title, ("what", "found", "", "what to do"), rows)


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
        return Finding(name, "not installed", True, f"optional: pip install 'edgefold[{OPTIONAL[name]}]'")
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
