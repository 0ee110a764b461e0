"""Any nn.Module that torch.export can trace: a small convolutional classifier on scikit-learn's handwritten digits.

Run it:  python examples/plain_module.py OUT_FOLDER
"""

import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import TrainingArguments

import edgefold as ef
from edgefold.exporters import export_onnx
from edgefold.runtimes import benchmark, open_session


class Digits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(64 * 4 * 4, 10)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.head(nn.functional.max_pool2d(self.features(images), 2).flatten(1))


def train(model: nn.Module, rows: list[dict[str, Tensor]], out: str, epochs: int, **teaching: object) -> None:
    arguments = TrainingArguments(out, num_train_epochs=epochs, learning_rate=2e-3, report_to=[], save_strategy="no")
    arguments.remove_unused_columns = False
    ef.CompressionTrainer(model, args=arguments, train_dataset=rows, **teaching).train()


def accuracy(model: nn.Module, rows: list[dict[str, Tensor]]) -> float:
    images, labels = (torch.stack([row[name] for row in rows]) for name in ("images", "labels"))
    with torch.no_grad():
        return float((model.eval()(images).argmax(-1) == labels).float().mean())


def main(out: str, epochs: int = 3) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    rows = [
        {"images": image, "labels": torch.tensor(label)} for image, label in zip(images, digits.target, strict=True)
    ]
    train_rows, test_rows = rows[:1400], rows[1400:]

    teacher = Digits()
    train(teacher, train_rows, f"{out}/teacher", epochs, objective=ef.Objective(task=1, logits=0, hidden=0))
    inputs = {"images": images[:64]}
    print(ef.trace(teacher, inputs))
    plan = ef.Plan([ef.Select("channels.0", 8), ef.Select("channels.1", 16)])
    student = ef.build_student(teacher, plan, inputs, calibration=[inputs])
    train(student, train_rows, f"{out}/student", epochs, teacher=teacher, objective=ef.Objective(hidden=0))
    plain = ef.fold(student.cpu())
    print(f"teacher {accuracy(teacher.cpu(), test_rows):.1%}, student {accuracy(plain, test_rows):.1%}")

    artifact = export_onnx(plain, inputs, Path(out, "onnx"))
    with open_session(artifact) as session:
        print(benchmark(session, {"images": images[:1].numpy()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
