"""Every recipe among the examples is whole, and its method runs from start to end, in short, on a tiny teacher."""

from pathlib import Path
from typing import Any

import pytest

from edgefold.recipes import Recipe, load_recipe

RECIPES = sorted((Path(__file__).parent.parent / "examples" / "recipes").glob("*.yaml"))
CLASSIFIERS = [
    path for path in RECIPES if load_recipe(path).task == "text-classification" and not load_recipe(path).stages
]
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
    for gates in [content["gates"]] if "gates" in content else []:
        gates["multiple_of"] = 4
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
    "path",
    CLASSIFIERS,
    ids=lambda path: path.stem,
)
def test_every_classifier_among_them_runs(path: Path, job: Path, tmp_path: Path) -> None:
    from edgefold.checkpoints import load_student
    from edgefold.compression import compress
    from edgefold.recipes import check_recipe

    result = compress(check_recipe(in_short(load_recipe(path), job)), tmp_path / "student")
    assert 0 <= result.metrics["test_accuracy"] <= 1
    assert result.metrics["fold_error"] <= 1e-5
    opened: Any = load_student(result.student)
    assert sum(parameter.numel() for parameter in opened.parameters()) > 0
    if path.stem == "l0_gates":
        assert result.metrics["gates_share"] <= 0.4
        assert result.metrics["parameters_removed"] > 0
        sizes = {layer.intermediate.dense.out_features for layer in opened.bert.encoder.layer}
        assert all(size % 4 == 0 for size in sizes)
    if path.stem == "nm_sparse":
        from edgefold.sparsity_checks import check_nm

        assert check_nm(opened, 2, 4, where="encoder") == 12


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", [p for p in RECIPES if load_recipe(p).stages], ids=lambda path: path.stem)
def test_every_recipe_of_stages_runs(path: Path, tmp_path: Path) -> None:
    """From the example's own preparation, on a tiny text: pre-training, then the task, and both are measured."""
    from task_jobs import write_stages
    from test_examples import load

    from edgefold.compression import compress
    from edgefold.packaged_text import PlainText
    from edgefold.recipes import TrainingSettings, check_recipe

    folder = write_stages(tmp_path)
    text = (folder / "train.txt").read_text()
    settings = TrainingSettings(epochs=1, batch_size=16, threads=1)
    load("seed_texts").main(str(folder / "seed"), PlainText((text,), (text, text)), folder / "pretrained", settings, 16)
    result = compress(check_recipe(stages_in_short(load_recipe(path), folder)), tmp_path / "student")
    first, last = (stage.name for stage in load_recipe(path).stages)
    assert {point.stage for point in result.curve} == {first, last}
    assert result.metrics[f"{first}/test_perplexity"] > 1
    assert 0 <= result.metrics["test_accuracy"] <= 1
    assert 0.5 < result.metrics["carried_share"] < 1


def stages_in_short(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """The recipe on tiny teachers and data, a text in the first stage and labelled lines in the last."""
    content: dict[str, Any] = recipe.model_dump(mode="json", exclude_none=True)
    rows = {split: str(folder / f"{split}.csv") for split in ("train", "validation", "test")}
    texts = {split: str(folder / "seed" / "data" / split) for split in rows}
    for job in (content, *content["stages"]):
        for kind, step in ((kind, step) for each in job["plan"] for kind, step in each.items() if "size" in step):
            assert kind in ("project", "select")
            step["size"] = TINY[step["dimension"]]
        job["training"] |= {"epochs": 1, "batch_size": 16, "threads": 1}
        job["calibration"] = {"samples": 32}
        job["teacher"] = str(folder / "classifier")
        job["data"] |= {**rows, "max_length": 16} if "max_length" in job["data"] else {**texts, "block_length": 16}
    content["stages"][0]["teacher"] = str(folder / "seed" / "teacher")
    return content
