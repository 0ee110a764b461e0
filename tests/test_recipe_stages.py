"""Stages in a recipe: what they take from it, what is refused, and that a resolved recipe reads back the same."""

from pathlib import Path

import pytest

from edgefold.errors import InputError
from edgefold.recipes.data import MaskedText, TextData
from edgefold.recipes.recipe import Recipe, dump_recipe, load_recipe

TOP = (
    "teacher: teacher\ndata: {train: a.csv, validation: b.csv, test: c.csv, max_length: 32}\n"
    "training: {batch_size: 7, seed: 3}\nobjective: {attention: 0.5}\n"
)
PLAN = "plan: [project: {dimension: hidden, size: 8}]\n"
TEXTS = "data: {train: a.txt, validation: b.txt, test: c.txt}"
PRE = f"  - {{name: pre, task: masked-language-modeling, teacher: body, {TEXTS}, objective: {{task: 1, logits: 0}}}}\n"


def load(folder: Path, text: str) -> Recipe:
    (folder / "recipe.yaml").write_text(text)
    return load_recipe(folder / "recipe.yaml")


def test_what_a_stage_leaves_out_is_the_recipes(tmp_path: Path) -> None:
    text = f"{TOP}{PLAN}stages:\n{PRE}  - {{name: fine, training: {{epochs: 2}}, data: {{max_length: 16}}}}\n"
    recipe = load(tmp_path, text)
    pre, fine = recipe.jobs
    assert (pre.teacher, fine.teacher) == (tmp_path / "body", tmp_path / "teacher")
    assert isinstance(pre.data, MaskedText)
    assert isinstance(fine.data, TextData)
    assert (fine.data.max_length, fine.data.train) == (16, tmp_path / "a.csv")
    assert (pre.training.batch_size, fine.training.batch_size, fine.training.epochs) == (7, 7, 2)
    assert (pre.objective.logits, pre.objective.attention, fine.objective.attention) == (0, 0.5, 0.5)
    assert (len(pre.plan), fine.plan) == (1, ())
    dump_recipe(recipe, tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe


def test_a_recipe_without_stages_is_one_job(tmp_path: Path) -> None:
    recipe = load(tmp_path, TOP + PLAN)
    assert recipe.jobs == (recipe,)
    dump_recipe(recipe, tmp_path / "resolved.yaml")
    assert "\nstages:" not in (tmp_path / "resolved.yaml").read_text()


def test_plans_may_stand_in_the_stages_alone(tmp_path: Path) -> None:
    stages = "stages:\n  - {name: half, plan: [project: {dimension: hidden, size: 8}]}\n"
    stages += "  - {name: third, plan: [project: {dimension: hidden, size: 4}], training: {mode: all}}\n"
    recipe = load(tmp_path, TOP + stages)
    assert [job.to_plan().steps[0].size for job in recipe.jobs] == [8, 4]  # type: ignore[union-attr]
    dump_recipe(recipe, tmp_path / "resolved.yaml")
    assert load_recipe(tmp_path / "resolved.yaml") == recipe


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ("  - {name: a}\n  - {name: a}\n", "stages: two are named a; give each a name of its own"),
        ("  - {training: {epochs: 1}}\n", "stages[0].name is missing"),
        ("  - {name: a/b}\n", "stages[0].name is 'a/b'; it should"),
        ("  - {name: a, task: masked-language-modeling}\n", "stages[0].data is missing"),
        (
            f"  - {{name: a, task: masked-language-modeling, {TEXTS[:-1]}, blok_length: 3}}}}\n",
            "mean stages[0].data.b",
        ),
        ("  - {name: a, data: {labl: x}}\n", "stages[0].data.labl is no known key; did you mean stages[0].data.label?"),
        ("  - {name: a, training: {epochs: 0}}\n", "line 7: stages[0].training.epochs is 0; it should be greater than"),
        ("  - {name: a, vocabulary: {}}\n", "stages[0].vocabulary is no known key"),
        (
            "  - {name: a}\n  - {name: b, training: {mode: all}}\n",
            "b has the mode all, for which a leaves no",
        ),
        ("  - 3\n", "stages[0] is 3; it should be"),
    ],
)
def test_refusals(tmp_path: Path, stages: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load(tmp_path, f"{TOP}{PLAN}stages:\n{stages}")
    assert expected in str(caught.value)


def test_what_the_recipe_says_wrong_is_said_once(tmp_path: Path) -> None:
    text = TOP.replace("seed: 3", "epochs: 0") + PLAN + "stages: [{name: a}, {name: b}]\n"
    with pytest.raises(InputError) as caught:
        load(tmp_path, text)
    assert str(caught.value).count("epochs is 0") == 1


def test_paths_of_stages_are_checked_by_their_place(tmp_path: Path) -> None:
    recipe = load(tmp_path, f"{TOP}{PLAN}stages:\n{PRE}  - {{name: fine}}\n")
    with pytest.raises(InputError, match=r"^stages\[0\]\.teacher: .*body is not a folder"):
        recipe.check_paths()
    (tmp_path / "body").mkdir()
    (tmp_path / "body" / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"^stages\[0\]\.data\.train: .*a\.txt does not exist"):
        recipe.check_paths()
