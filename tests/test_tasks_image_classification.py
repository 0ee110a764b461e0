"""Image classification: the whole job on digits that scikit-learn carries, and the refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_jobs import interrupt_and_resume, write_job

from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.recipe import load_recipe

pytestmark = pytest.mark.filterwarnings("ignore")
DATA = "{train: train.npz, validation: validation.npz, test: test.npz}"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    write_digits(tmp_path)
    config = ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=16,
        patch_size=8,
        num_labels=10,
    )
    processor: Any = ViTImageProcessorPil(size={"height": 16, "width": 16})
    return write_job(tmp_path, "image-classification", ViTForImageClassification(config), processor, DATA)


def write_digits(folder: Path) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * (255 / 16)).astype(np.uint8)
    for split, begin, end in (("train", 0, 40), ("validation", 40, 60), ("test", 60, 80)):
        np.savez(folder / f"{split}.npz", images=images[begin:end], labels=digits.target[begin:end])


def test_a_stopped_job_resumes_and_ends_in_an_ordinary_checkpoint(recipe: Path, tmp_path: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    result = interrupt_and_resume(recipe, tmp_path / "student")
    for split in ("untrained", "validation", "test", "teacher_test"):
        assert 0 <= result.metrics[f"{split}_accuracy"] <= 1
    assert AutoModelForImageClassification.from_pretrained(result.student).config.hidden_size == 12
    opener: Any = AutoImageProcessor
    processed = opener.from_pretrained(result.student)(np.zeros((8, 8, 3), np.uint8), return_tensors="pt")
    assert processed["pixel_values"].shape == (1, 3, 16, 16)


def test_refusals(recipe: Path, tmp_path: Path) -> None:
    job = load_recipe(recipe)
    recipe.write_text(recipe.read_text() + "vocabulary: {keep: used}\n")
    vocabulary = load_recipe(recipe)
    with pytest.raises(InputError, match="vocabulary: the task image-classification has no texts"):
        compress(vocabulary, tmp_path / "student")
    (tmp_path / "teacher" / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"its preprocessor_config\.json says how images become tensors"):
        compress(job, tmp_path / "student")
