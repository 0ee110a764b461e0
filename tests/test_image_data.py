"""Labelled images: folders and arrays give the same pixels, and what is wrong is refused by its name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefold.data.images import check_classes, find_class_names, read_images
from edgefold.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6), dtype=np.uint8)
LABELS = ["dog", "cat", "cat", "dog"]


def write_folder(folder: Path) -> Path:
    from PIL import Image

    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_and_an_array_hold_the_same_images(tmp_path: Path, channels: int) -> None:
    np.savez(tmp_path / "data.npz", images=PIXELS, labels=np.array(LABELS))
    arrays, files = read_images(tmp_path / "data.npz"), read_images(write_folder(tmp_path / "data"))
    assert find_class_names(arrays) == find_class_names(files) == ("cat", "dog")
    by_label: dict[str, list[Any]] = {"cat": [], "dog": []}
    for image in files:
        by_label[image.label].append(image.pixels(channels))
    for image in arrays:
        assert image.pixels(channels).shape == (5, 6, channels)
        assert any(np.array_equal(image.pixels(channels), other) for other in by_label[image.label])


def test_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=PIXELS, labels=np.array([10, 9, 9, 10]))
    images = read_images(tmp_path / "data.npz")
    assert find_class_names(images) == ("9", "10")
    with pytest.raises(InputError, match=r"data\.npz, image 1: unknown class '9'; known are '10'"):
        check_classes(images, ["10"], tmp_path / "data.npz")


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"images": PIXELS}, "has no array 'labels'; those present are 'images'"),
        ({"images": PIXELS / 2, "labels": LABELS}, r"images is float64 of shape \(4, 5, 6\); it must be uint8"),
        ({"images": PIXELS[0], "labels": LABELS}, r"images is uint8 of shape \(5, 6\)"),
        ({"images": PIXELS, "labels": LABELS[:3]}, r"labels is <U3 of shape \(3,\); it must have"),
        ({"images": PIXELS, "labels": np.ones(4)}, "labels is float64"),
        ({"images": PIXELS, "labels": np.array([None] * 4)}, "without objects"),
    ],
)
def test_refusals_of_arrays(tmp_path: Path, arrays: dict[str, Any], expected: str) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=rf"data\.npz.*{expected}"):
        read_images(tmp_path / "data.npz")


def test_refusals_of_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no image; put"):
        read_images(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "bad.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.png cannot be read as an image"):
        read_images(tmp_path)
    with pytest.raises(InputError, match=r"neither a folder of class folders nor an \.npz file"):
        read_images(tmp_path / "none.npz")
