"""Every recipe among the examples is whole, and its method runs from start to end, in short, on a tiny teacher."""

from pathlib import Path
from typing import Any

import pytest

from edgefold.recipes import Recipe, load_recipe

RECIPES = sorted((Path(__file__).parent.parent / "examples" / "recipes").glob("*.yaml"))
TINY = {"hidden": 12, "ffn": 16, "heads": 2}


def in_short(recipe: Recipe, job: Path) -> dict[str, Any]:
    """The recipe on the tiny job's teacher and data, its sizes and lengths cut down, its method as it is."""
    content: dict[str, Any] = recipe.model_dump(mode="json", exclude_none=True)
    for step in content["plan"]:
        for kind in ("project", "select"):
            if kind in step:
                step[kind]["size"] = TINY[step[kind]["dimension"]]
        if "low_rank" in step:
            step["low_rank"]["rank"] = 4
        if "share_layers" in step:
            step["share_layers"]["groups"] = 1
    data = {split: str(job / f"{split}.csv") for split in ("train", "validation", "test")}
    training = {**content["training"], "epochs": 2, "batch_size": 16, "threads": 1}
    changed = {"teacher": str(job / "teacher"), "data": {**data, "max_length": 16}, "training": training}
    return {**content, **changed, "calibration": {"samples": 32}}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_says_how_it_is_run_and_is_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.to_plan().steps
    assert f"edgefold compress examples/recipes/{path.name} --out" in path.read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "path", [p for p in RECIPES if load_recipe(p).task == "text-classification"], ids=lambda path: path.stem
)
def test_every_classifier_among_them_runs(path: Path, job: Path, tmp_path: Path) -> None:
    from edgefold.checkpoints import load_student
    from edgefold.compression import compress
    from edgefold.recipes import check_recipe

    result = compress(check_recipe(in_short(load_recipe(path), job)), tmp_path / "student")
    assert 0 <= result.metrics["test_accuracy"] <= 1
    assert result.metrics["fold_error"] <= 1e-5
    opened = load_student(result.student)
    assert sum(parameter.numel() for parameter in opened.parameters()) > 0
    if path.stem == "nm_sparse":
        from edgefold.sparsity_checks import check_nm

        assert check_nm(opened, 2, 4, where="encoder") == 12
