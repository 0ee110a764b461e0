"""Models of torchvision and timm at their own sizes, with random weights, each halved along all that it allows.

`pip install torchvision timm`, then `make bench ARGS="-k zoos"`: a row for each, as `-k unnamed` prints them. Nothing
else needs the two, and without them nothing is run. `ZOO=timm:starnet_s050@96,torchvision:swin_t@64` runs some, at
images of that many pixels.
"""

import importlib
import inspect
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from family_survey import survey

pytestmark = pytest.mark.filterwarnings("ignore")
LIMIT = 1e-4
TORCHVISION = """
resnet18@64 resnext50_32x4d@64 densenet121@64 squeezenet1_1@64 mnasnet0_5@64 mobilenet_v2@64 mobilenet_v3_small@64
shufflenet_v2_x0_5@64 efficientnet_b0@64 efficientnet_v2_s@64 regnet_y_400mf@64 convnext_tiny@64 vit_b_16@224 swin_t@64
swin_v2_t@64 lraspp_mobilenet_v3_large@64
"""
TIMM = """
"""
DEFAULT = [f"torchvision:{name}" for name in TORCHVISION.split()] + [f"timm:{name}" for name in TIMM.split()]
CHOSEN = os.environ["ZOO"].split(",") if "ZOO" in os.environ else DEFAULT


def make(zoo: str, name: str, pixels: int) -> Any:
    """A model with random weights, for images of that size where its own is a matter of choice."""
    library: Any = importlib.import_module(zoo)
    if zoo == "torchvision":
        without = {"weights": None, **({"weights_backbone": None} if "lraspp" in name else {})}
        return library.models.get_model(name, **without)
    try:
        return library.create_model(name, img_size=pixels)
    except TypeError:
        return library.create_model(name)


@pytest.mark.parametrize("model", CHOSEN)
def test_model_zoos(model: str, tmp_path: Path) -> None:
    zoo, _, name = model.partition(":")
    pytest.importorskip(zoo)
    name, _, pixels = name.partition("@")
    torch.manual_seed(0)
    module = make(zoo, name, int(pixels)).eval()
    key = next(iter(inspect.signature(module.forward).parameters))
    inputs = {key: torch.randn(2, 3, int(pixels), int(pixels))}
    error = survey(f"{zoo}:{name}", module, inputs, tmp_path, inputs=inputs)
    assert error is None or error <= LIMIT
