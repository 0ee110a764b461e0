"""Gates in a recipe: what the section becomes, what it refuses, and where stages may have it."""

from pathlib import Path

import pytest

from edgefold.errors import InputError
from edgefold.gates.settings import Gates
from edgefold.recipes.recipe import Recipe, dump_recipe, load_recipe

RECIPE = """\
teacher: teacher
data: {train: train.csv, validation: validation.csv, test: test.csv}
plan:
  - project: {dimension: hidden, size: 128}
training: {seed: 7}
"""
STAGES = "stages:\n  - name: first\n    training: {epochs: 1}\n  - name: second\n    training: {epochs: 2}\n"
PLAN = "    plan: [select: {dimension: ffn, size: 512}]\n"


def load(folder: Path, text: str) -> Recipe:
    (folder / "recipe.yaml").write_text(text)
    return load_recipe(folder / "recipe.yaml")


def test_the_section_becomes_gates_that_draw_by_the_seed_of_training(tmp_path: Path) -> None:
    recipe = load(tmp_path, RECIPE + "gates: {where: [ffn, heads], keep: 0.4, warmup: 0.3, learning_rate: 0.1}\n")
    assert recipe.to_gates() == Gates(("ffn", "heads"), keep=0.4, warmup=0.3, learning_rate=0.1, seed=7)
    dump_recipe(recipe, tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe
    assert load(tmp_path, RECIPE + "gates: {where: ffn, keep: 0.4}\n").to_gates() == Gates("ffn", keep=0.4, seed=7)
    assert load(tmp_path, RECIPE).to_gates() is None


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ("{where: ffn}", "gates.keep"),
        ("{where: ffn, keep: 1}", "gates.keep"),
        ("{where: [], keep: 0.4}", "gates.where"),
        ("{where: ffn, keep: 0.4, warm_up: 0.2}", "warmup"),
        ("{where: ffn, keep: 0.4, warmup: 0.8}", "warmup=0.8, settle=0.7"),
    ],
)
def test_bad_sections_are_refused(gates: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, RECIPE + f"gates: {gates}\n")


def test_of_stages_the_last_has_the_gates(tmp_path: Path) -> None:
    recipe = load(tmp_path, RECIPE + "gates: {where: ffn, keep: 0.4}\n" + STAGES + PLAN)
    assert [stage.to_gates() for stage in recipe.stages] == [None, Gates("ffn", keep=0.4, seed=7)]
    with pytest.raises(InputError, match="second has gates and no plan"):
        load(tmp_path, RECIPE + "gates: {where: ffn, keep: 0.4}\n" + STAGES)
    early = STAGES.replace("name: first\n", "name: first\n    gates: {where: ffn, keep: 0.4}\n")
    with pytest.raises(InputError, match=r"first has gates and is not the last; .* give the gates to second"):
        load(tmp_path, RECIPE + early + PLAN)
