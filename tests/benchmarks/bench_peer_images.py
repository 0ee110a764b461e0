"""edgefold's student of EfficientNet-lite0 beside Torch-Pruning's, of as many multiply-adds, in the same seconds.

    python examples/image_teacher.py out/images && EDGEFOLD_IMAGES=out/images make bench ARGS="-k peers_on_images"

Torch-Pruning (in a folder below the cache) keeps the same share of every channel, chosen by first-order importance.
Its student is trained by edgefold's trainer with the objective of the recipe for the processor seconds that edgefold's
took, at each of two learning rates, of which the validation images choose. One thread, batch 1 of 32 x 32 pixels,
processor time in turns; accuracy of the 1,000 test digits in ONNX Runtime.
"""

import copy
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from example_scripts import load
from peer_environments import own_folder
from peer_students import IMPORTANCE_ROWS, TORCH_PRUNING
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgefold.artifacts import Artifact
from edgefold.checkpoints import load_student
from edgefold.cli.demo_rivals import train_for
from edgefold.distillation import Objective
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.exporters.sensitivity import measure_sensitivity, most_sensitive
from edgefold.hardware_sizes import MULTIPLE
from edgefold.jobs.compression import compress
from edgefold.preprocessors import open_image_processor
from edgefold.ratios import paired_ratio
from edgefold.recipes.recipe import Recipe, check_recipe, load_recipe
from edgefold.runtimes import Session, benchmark_together, open_session
from edgefold.tasks.image_classification import IMAGE_CLASSIFICATION, stack
from edgefold.tasks.text_classification import accuracy

IMAGES = Path(os.environ.get("EDGEFOLD_IMAGES", "out/images"))
RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "images.yaml"
RATES = (1e-3, 2e-3)
SEED = int(os.environ.get("SEED", "0"))

pytestmark = pytest.mark.skipif(not (IMAGES / "teacher").is_dir(), reason=f"needs {IMAGES}; see the first lines")


def own_recipe() -> Recipe:
    content = load_recipe(RECIPE).model_dump(mode="json", exclude_none=True)
    content["teacher"] = str(IMAGES.absolute() / "teacher")
    for split in ("train", "validation", "test"):
        content["data"][split] = str(IMAGES.absolute() / "data" / f"{split}.npz")
    content["training"] |= {"threads": 1, "seed": SEED}
    return check_recipe(content)


class Digits:
    """The teacher and its images, as the recipe reads them."""

    def __init__(self, recipe: Recipe) -> None:
        self.teacher: Any = IMAGE_CLASSIFICATION.open_teacher(Path(recipe.teacher))
        splits, processor = IMAGE_CLASSIFICATION.read(recipe.data, self.teacher), open_image_processor(recipe.teacher)
        self.train, self.validation, self.test = (
            IMAGE_CLASSIFICATION.encode(part, processor, recipe.data)
            for part in (splits.train, splits.validation, splits.test)
        )

    def batches(self, rows: int) -> list[dict[str, Tensor]]:
        return [stack([self.train[i + j] for j in range(32)]) for i in range(0, rows, 32)]


def multiply_adds(model: nn.Module, pixels: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(pixel_values=pixels)
    return counter.get_total_flops() // 2


def prune(digits: Digits, share: float) -> nn.Module:
    """By Torch-Pruning, in one step, a share of every channel: first-order importance (Molchanov et al., 2019)."""
    sys.path.insert(0, str(own_folder(*TORCH_PRUNING)))
    import torch_pruning  # its folder has just been made

    classes = next(value.shape[0] for name, value in digits.teacher.state_dict().items() if name == "fc.bias")
    model = load("efficientnet_lite").EfficientNetLite0(classes).eval()
    model.load_state_dict(
        {k: v for k, v in digits.teacher.state_dict().items() if k in model.state_dict()}, strict=False
    )
    batches = digits.batches(IMPORTANCE_ROWS)
    pixels = batches[0]["pixel_values"][:2]
    torch.testing.assert_close(model(pixels), digits.teacher(pixel_values=pixels).detach(), rtol=1e-3, atol=1e-3)
    pruner = torch_pruning.pruner.BasePruner(
        model,
        pixels,
        importance=torch_pruning.importance.GroupTaylorImportance(),
        pruning_ratio=share,
        ignored_layers=[model.fc],
        round_to=MULTIPLE,  # without it ONNX Runtime falls back to slow convolutions
    )
    for batch in batches:
        nn.functional.cross_entropy(model(batch["pixel_values"]), batch["labels"]).backward()
    for group in pruner.step(interactive=True):
        group.prune()
    model.zero_grad()
    return model  # type: ignore[no-any-return]


def prune_to(digits: Digits, limit: int, pixels: Tensor) -> nn.Module:
    """The least that has to go, to a hundredth, for as few multiply-adds."""
    low, high = 0, 95
    while high - low > 1:
        middle = (low + high) // 2
        fits = multiply_adds(prune(digits, middle / 100), pixels) <= limit
        low, high = (low, middle) if fits else (middle, high)
    print(f"Torch-Pruning: {high} % of every channel goes", flush=True)
    return prune(digits, high / 100)


def train_pruned(digits: Digits, recipe: Recipe, pruned: nn.Module, seconds: float, out: Path) -> nn.Module:
    found: dict[float, Any] = {}
    for rate in RATES:
        student = copy.deepcopy(pruned)
        settings = recipe.training.model_copy(update={"learning_rate": rate})
        objective = Objective(task=recipe.objective.task, logits=recipe.objective.logits, hidden=0.0)
        given = (digits.teacher, objective, settings, digits.train, stack, out / "training", "peer")
        train_for(seconds, student, *given, lambda *_: None, now=time.process_time)
        found[rate] = student
    right = {rate: accuracy(model, digits.validation, stack) for rate, model in found.items()}
    print(f"Torch-Pruning: validation accuracy by learning rate {right}", flush=True)
    return found[max(right, key=lambda rate: right[rate])]  # type: ignore[no-any-return]


def exported(name: str, model: nn.Module, digits: Digits, out: Path) -> dict[str, Artifact]:
    calibration = [{"pixel_values": batch["pixel_values"]} for batch in digits.batches(128)]
    inputs = {"pixel_values": calibration[0]["pixel_values"][:2]}
    fp32 = export_onnx(model.eval(), inputs, out / f"{name}-fp32", task="image-classification")
    left_out = most_sensitive(measure_sensitivity(fp32.model_path, calibration, "cpu-x86"))  # as `edgefold export` does
    print(f"{name}: in int8 these stay in fp32: {left_out}", flush=True)
    given = {"calibration": calibration, "left_out": left_out}
    int8 = quantize_onnx(fp32, out / f"{name}-int8", quantization="static", **given)
    return {f"{name}, fp32": fp32, f"{name}, int8": int8}


def right_share(session: Session, digits: Digits) -> float:
    right = 0
    for start in range(0, len(digits.test), 50):
        batch = stack([digits.test[i] for i in range(start, start + 50)])
        logits = next(iter(session.run({"pixel_values": batch["pixel_values"].numpy()}).values()))
        right += int((logits.argmax(-1) == batch["labels"].numpy()).sum())
    return right / len(digits.test)


def print_table(artifacts: Mapping[str, Artifact], models: Mapping[str, nn.Module], digits: Digits) -> dict[str, float]:
    pixels = digits.batches(32)[0]["pixel_values"][:1]
    with ExitStack() as stack_of:
        sessions = {name: stack_of.enter_context(open_session(a, threads=1)) for name, a in artifacts.items()}
        right = {name: right_share(session, digits) for name, session in sessions.items()}
        feeds = {"pixel_values": np.ascontiguousarray(pixels.numpy())}
        reports = benchmark_together(sessions, feeds, min_duration_s=float(os.environ.get("MEASURE_S", "5")))
    first = next(iter(artifacts))
    print("\n| model | parameters (M) | multiply-adds (M) | MB | accuracy | x |\n|---|---|---|---|---|---|")
    for name, artifact in artifacts.items():
        model, ratio = models[name.split(",")[0]], paired_ratio(baseline=reports[first], candidate=reports[name])
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        print(
            f"| {name} | {size:.2f} | {multiply_adds(model, pixels) / 1e6:.2f} | {artifact.size_bytes / 1e6:.1f} | "
            f"{right[name]:.1%} | {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) |"
        )
    print(f"contended: {any(report.contended for report in reports.values())}, load {os.getloadavg()[0]:.1f}")
    return right


@pytest.mark.slow
def test_peers_on_images(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    recipe = own_recipe()
    digits, begun = Digits(recipe), time.process_time()
    models = {"teacher": digits.teacher, "edgefold": load_student(compress(recipe, tmp_path / "edgefold").student)}
    seconds = time.process_time() - begun
    print(f"\nedgefold's student took {seconds:.0f} processor seconds", flush=True)
    pixels = digits.batches(32)[0]["pixel_values"][:1]
    pruned = prune_to(digits, multiply_adds(models["edgefold"], pixels), pixels)
    models["Torch-Pruning"] = train_pruned(digits, recipe, pruned, seconds, tmp_path)
    artifacts: dict[str, Artifact] = {}
    for name, model in models.items():
        artifacts |= exported(name, model, digits, tmp_path)
    right = print_table(artifacts, models, digits)
    assert right["edgefold, fp32"] > 0.5
