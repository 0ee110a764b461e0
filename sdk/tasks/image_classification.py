"""Image classification: one class for an image.

The teacher is a Hugging Face checkpoint, or any module whose forward takes pixel_values and returns logits, in a folder
that `save_student(module, folder, inputs=..., tokenizer=image_processor)` wrote.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoModelForImageClassification
from transformers.utils import CONFIG_NAME

from edgefold.checkpoints import MANIFEST, load_student
from edgefold.data.images import LabelledImage, check_classes, find_class_names, read_images
from edgefold.distillation import logits_of
from edgefold.errors import InputError
from edgefold.preprocessors import open_image_processor
from edgefold.recipes.data import ImageData
from edgefold.tasks.opening import check_label_count, known_labels, open_with_labels, teacher_opener
from edgefold.tasks.task import Metric, Row, Splits, Task
from edgefold.tasks.text_classification import accuracy

CHANNELS = 3
"""That a model reads whose configuration does not say."""


class Images(Dataset[Row]):
    """Labelled images as the processor makes them, each when it is asked for.

    Args:
        labels: of the images. channels: that the model reads.
    """

    def __init__(self, images: Sequence[LabelledImage], labels: Sequence[int], processor: Any, channels: int) -> None:
        self._images = images
        self._labels = labels
        self._processor = processor
        self._channels = channels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Row:
        """{"pixel_values": (channels, height, width), "labels"}"""
        pixels = self._images[index].pixels(self._channels)
        processed = self._processor(pixels, return_tensors="pt", input_data_format="channels_last")
        return {"pixel_values": processed["pixel_values"][0], "labels": self._labels[index]}


def stack(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Rows of equal shapes -> (rows, ...) each."""
    return {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}


def _read(data: ImageData, teacher: Any) -> Splits:
    images = {split: read_images(path) for split, path in data.paths.items()}
    names = known_labels(teacher) or find_class_names(images["train"])
    for split, path in data.paths.items():
        check_classes(images[split], names, path)
    check_label_count(teacher, names)
    channels = getattr(getattr(teacher, "config", None), "num_channels", CHANNELS)
    return Splits(*((images[split], names, channels) for split in data.paths))


def _encode(examples: tuple[Sequence[LabelledImage], Sequence[str], int], processor: Any, data: ImageData) -> Images:
    images, names, channels = examples
    number = {name: i for i, name in enumerate(names)}
    return Images(images, [number[image.label] for image in images], processor, channels)


def _open_teacher(folder: Path) -> nn.Module:
    """A checkpoint; or a graph, whose number of classes is what it returns for two images."""
    if (folder / CONFIG_NAME).is_file() or not (folder / MANIFEST).is_file():
        return teacher_opener(AutoModelForImageClassification)(folder)
    teacher: Any = load_student(folder)
    blank = [np.zeros((32, 32, CHANNELS), np.uint8)] * 2
    processor = open_image_processor(folder)
    pixels = processor(blank, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    try:
        with torch.no_grad():
            logits = logits_of(teacher(pixel_values=pixels))
    except (TypeError, RuntimeError) as error:
        said = str(error).strip().splitlines()[0]
        raise InputError(
            f"The teacher {folder} does not take pixel_values of its image processor, {tuple(pixels.shape)}: {said}."
        ) from None
    teacher.num_labels = logits.shape[-1]
    return cast(nn.Module, teacher)


def _start_teacher(folder: Path, data: ImageData) -> nn.Module:
    return open_with_labels(AutoModelForImageClassification, folder, find_class_names(read_images(data.train)))


IMAGE_CLASSIFICATION = Task(
    metrics=(Metric("accuracy"),),
    open_teacher=_open_teacher,
    start_teacher=_start_teacher,
    read=_read,
    encode=_encode,
    collator=lambda processor, data, teacher: stack,
    evaluate=lambda model, dataset, collate: {"accuracy": accuracy(model, dataset, collate)},
    open_processor=open_image_processor,
)
