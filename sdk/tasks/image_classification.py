"""Image classification: one class for an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoModelForImageClassification

from edgefold.image_data import LabelledImage, check_classes, find_class_names, read_images
from edgefold.image_processors import open_image_processor
from edgefold.recipe_data import ImageData
from edgefold.tasks.opening import check_label_count, known_labels, open_with_labels, teacher_opener
from edgefold.tasks.task import Metric, Row, Splits, Task
from edgefold.tasks.text_classification import accuracy


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
    channels = getattr(teacher.config, "num_channels", 3)
    return Splits(*((images[split], names, channels) for split in data.paths))


def _encode(examples: tuple[Sequence[LabelledImage], Sequence[str], int], processor: Any, data: ImageData) -> Images:
    images, names, channels = examples
    number = {name: i for i, name in enumerate(names)}
    return Images(images, [number[image.label] for image in images], processor, channels)


def _start_teacher(folder: Path, data: ImageData) -> nn.Module:
    return open_with_labels(AutoModelForImageClassification, folder, find_class_names(read_images(data.train)))


IMAGE_CLASSIFICATION = Task(
    metrics=(Metric("accuracy"),),
    open_teacher=teacher_opener(AutoModelForImageClassification),
    start_teacher=_start_teacher,
    read=_read,
    encode=_encode,
    collator=lambda processor, data, teacher: stack,
    evaluate=lambda model, dataset, collate: {"accuracy": accuracy(model, dataset, collate)},
    open_processor=open_image_processor,
)
