"""Models of torchvision and timm at their own sizes, with random weights, each halved along all that it allows.

`pip install torchvision timm`, then `make bench ARGS="-k zoos"`: a row for each, as `-k unnamed` prints them. Nothing
else needs the two, and without them nothing is run. `ZOO=timm:starnet_s050@96,torchvision:swin_t@64` runs some, at
images of that many pixels.
"""

import importlib
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from family_survey import survey

pytestmark = pytest.mark.filterwarnings("ignore")
LIMIT = 1e-4
ZOO = """
torchvision:resnet18@64 torchvision:densenet121@64 torchvision:mobilenet_v3_small@64 torchvision:shufflenet_v2_x0_5@64
torchvision:efficientnet_b0@64 torchvision:regnet_y_400mf@64 torchvision:convnext_tiny@64 torchvision:swin_t@64
torchvision:lraspp_mobilenet_v3_large@64 timm:test_vit@160 timm:test_vit_relpos@160 timm:test_mambaout@96
timm:starnet_s050@96 timm:mobilevit_xxs@128 timm:edgenext_xx_small@128 timm:ghostnet_050@96 timm:efficientvit_m0@224
timm:convnext_zepto_rms@96 timm:regnetx_002@96
"""
CHOSEN = os.environ["ZOO"].split(",") if "ZOO" in os.environ else ZOO.split()


def make(zoo: str, name: str, pixels: int) -> Any:
    """A model with random weights, for images of that size where its own is a matter of choice."""
    library: Any = importlib.import_module(zoo)
    if zoo == "torchvision":
        has_backbone = name.startswith(("lraspp", "fcn", "deeplab"))
        without = {"weights": None, **({"weights_backbone": None} if has_backbone else {})}
        return library.models.get_model(name, **without)
    try:
        return library.create_model(name, img_size=pixels)
    except TypeError:
        return library.create_model(name)


@pytest.mark.parametrize("model", CHOSEN)
def test_model_zoos(model: str, tmp_path: Path) -> None:
    zoo, _, name = model.partition(":")
    # torchvision's compiled operators, of which these models need none, do not load beside a torch of another build
    sys.modules.setdefault("torchvision._meta_registrations", ModuleType("torchvision._meta_registrations"))
    pytest.importorskip(zoo)
    name, _, pixels = name.partition("@")
    torch.manual_seed(0)
    module = make(zoo, name, int(pixels)).eval()
    key = next(iter(inspect.signature(module.forward).parameters))
    inputs = {key: torch.randn(2, 3, int(pixels), int(pixels))}
    error = survey(f"{zoo}:{name}", module, inputs, tmp_path, saves_graph=True)
    assert error is None or error <= LIMIT
