"""What `edgefold doctor --device ssh://user@host` finds on a device, and the advice that follows."""

from edgefold.cli.findings import Finding, describe_processor
from edgefold.device_states import DeviceState, JetsonState
from edgefold.errors import DeviceError
from edgefold.runtimes.remote.measurement import clear_remote_store, read_remote_state

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def examine_device(device: str, clear: bool) -> list[Finding]:
    """Whether it can be reached, first of all; then what it is.

    Args:
        clear: whether to empty its store first.
    """
    try:
        if clear:
            clear_remote_store(device)
        state = read_remote_state(device)
    except DeviceError as error:
        return [Finding("connection", "none", False, str(error))]
    how = " (emulated: good for verify, not for bench)" if state.emulated else ""
    store = [Finding("store", "emptied", True)] if clear else []
    jetson = _jetson(state.jetson) if state.jetson else []
    return [
        Finding("connection", state.system + how, True),
        *store,
        _runtime(state),
        _openvino(state),
        *describe_processor(state),
        *jetson,
    ]


def _runtime(state: DeviceState) -> Finding:
    found = [f"{name} {state.versions[name]}" for name in RUNTIMES if name in state.versions]
    if found:
        return Finding("onnxruntime", ", ".join(found), True)
    advice = (
        "for bench: install it for that Python, python3 -m pip install onnxruntime; where it is in an environment of "
        "its own, name that environment's Python in the address: ssh://user@host/home/user/venv/bin/python3"
    )
    return Finding("onnxruntime", "not installed", False, advice)


def _openvino(state: DeviceState) -> Finding:
    found = state.versions.get("openvino")
    advice = "" if found else "optional, for --runtime openvino: python3 -m pip install openvino, for that Python"
    return Finding("openvino", f"openvino {found}" if found else "not installed", True, advice)


def _jetson(jetson: JetsonState) -> list[Finding]:
    release = f"L4T {jetson.l4t or 'unknown'}, JetPack {jetson.jetpack or 'unknown'}"
    advice = (
        "" if jetson.clocks_locked else "for steady latencies: sudo jetson_clocks, and sudo nvpmodel -m for the mode"
    )
    locked = {True: "locked", False: "not locked", None: "not told (jetson_clocks may need root)"}[jetson.clocks_locked]
    return [
        Finding("board", f"{jetson.model}, {release}", True),
        Finding("power mode", jetson.power_mode or "not told", True),
        Finding("clocks", locked, jetson.clocks_locked is True, advice),
    ]
