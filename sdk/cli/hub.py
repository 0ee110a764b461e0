"""Whether Hugging Face libraries may reach their hub: only for a model that the user named as one of the hub's."""

import os

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def stay_offline() -> None:
    """Refuse the network, telemetry and progress bars; to be called before transformers is imported."""
    for name in (*OFFLINE, "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ[name] = "1"


def go_online() -> None:
    """Let a model be downloaded, and show how far the download has come."""
    for name in (*OFFLINE, "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.pop(name, None)
