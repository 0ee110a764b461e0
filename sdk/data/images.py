"""Labelled images from a folder of class folders or from an .npz file; the files are opened when they are looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.data.records import quoted
from edgefold.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledImage:
    """One image: a file, or the pixels themselves (height, width, channels)."""

    source: Path | Pixels
    label: str

    def pixels(self, channels: int) -> Pixels:
        """(height, width, channels), 0 to 255.

        Raises:
            InputError: the file cannot be read as an image.
        """
        pixels = _read_file(self.source, channels) if isinstance(self.source, Path) else self.source
        return np.repeat(pixels, channels, axis=2) if pixels.shape[2] == 1 else pixels


def read_images(path: str | Path) -> list[LabelledImage]:
    """The images below a folder, class/image.png, or in an .npz file with `images` and `labels`.

    `images` is (images, height, width) or (images, height, width, channels) in uint8, `labels` (images,) of whole
    numbers or texts.

    Raises:
        InputError: naming the file or folder that is wrong.
    """
    place = Path(path)
    if place.is_dir():
        return _read_folder(place)
    if place.suffix.lower() != ".npz" or not place.is_file():
        raise InputError(f"{place} is neither a folder of class folders nor an .npz file; give one of the two.")
    return _read_arrays(place)


def find_class_names(images: Sequence[LabelledImage]) -> tuple[str, ...]:
    """The distinct labels, sorted; as numbers where all are whole numbers."""
    labels = {image.label for image in images}
    return tuple(sorted(labels, key=int if all(label.isdecimal() for label in labels) else str))


def check_classes(images: Sequence[LabelledImage], names: Sequence[str], path: str | Path) -> None:
    """Refuse classes that a model does not know.

    Raises:
        InputError: naming the file, or the number of the image in its array.
    """
    known = set(names)
    for number, image in enumerate(images):
        if image.label not in known:
            where = image.source if isinstance(image.source, Path) else f"{path}, image {number}"
            raise InputError(f"{where}: unknown class {image.label!r}; known are {quoted(names)}.")


def _read_folder(folder: Path) -> list[LabelledImage]:
    found = [
        LabelledImage(file, file.parent.name)
        for inner in sorted(folder.iterdir())
        if inner.is_dir()
        for file in sorted(inner.iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not found:
        raise InputError(
            f"{folder} holds no image; put {', '.join(IMAGE_SUFFIXES)} files into one folder for each class: "
            f"{folder.name}/cat/1.png."
        )
    for image in found:
        assert isinstance(image.source, Path)
        _open(image.source).close()
    return found


def _read_arrays(file: Path) -> list[LabelledImage]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as an .npz file without objects: {error}.") from None
    missing = [name for name in ("images", "labels") if name not in content]
    if missing:
        raise InputError(f"{file} has no array {missing[0]!r}; those present are {quoted(content)}.")
    images, labels = content["images"], content["labels"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
        raise InputError(
            f"{file}: images is {images.dtype} of shape {images.shape}; it must be uint8, (images, height, width) or "
            "(images, height, width, channels)."
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iuU":
        raise InputError(
            f"{file}: labels is {labels.dtype} of shape {labels.shape}; it must have a whole number or a text for each "
            f"of the {len(images)} images."
        )
    pixels = images[..., None] if images.ndim == 3 else images
    return [LabelledImage(image, str(label)) for image, label in zip(pixels, labels.tolist(), strict=True)]


def _read_file(file: Path, channels: int) -> Pixels:
    with _open(file) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _open(file: Path) -> Any:
    """A file whose header was read; its pixels are, when they are asked for."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise InputError("Image files need pillow: pip install 'edgefold[images]', or give an .npz file.") from None
    try:
        return Image.open(file)
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{file} cannot be read as an image: {error}.") from None
