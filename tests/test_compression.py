"""The job end to end on a tiny teacher: what it leaves, what it refuses, and that a kill loses nothing."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_jobs import kill_in_training

import edgefold
from edgefold.checkpoints import load_student
from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.jobs.results import CompressionResult
from edgefold.recipes.objective import ContrastSettings, ObjectiveSettings
from edgefold.recipes.penalties import PenaltyEntry
from edgefold.recipes.plan import PlanStep
from edgefold.recipes.recipe import Recipe, check_recipe, load_recipe
from edgefold.recipes.training import TeacherCacheSettings, VocabularySettings

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def recipe(job: Path) -> Recipe:
    return load_recipe(job / "recipe.yaml")


@pytest.fixture(scope="module")
def result(job: Path, tmp_path_factory: pytest.TempPathFactory) -> CompressionResult:
    """What the recipe makes; as one would begin in Python."""
    return edgefold.compress(job / "recipe.yaml", tmp_path_factory.mktemp("result") / "student")


def changed(recipe: Recipe, **training: object) -> Recipe:
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=training)})


def test_the_folder_is_an_ordinary_checkpoint_with_its_history(recipe: Recipe, result: CompressionResult) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(result.student)
    assert model.config.hidden_size == 12
    assert AutoTokenizer.from_pretrained(result.student)("worda wordb")["input_ids"]
    assert load_recipe(result.student / "recipe.yaml") == recipe
    assert json.loads((result.student / "metrics.json").read_text())["fold_error"] <= 1e-5
    assert [d["name"] for d in result.dimensions][:1] == ["hidden"]
    assert [path.name for path in result.student.parent.iterdir()] == ["student"]


def test_layers_are_dropped_and_shared_and_the_vocabulary_is_trimmed(job: Path, recipe: Recipe, tmp_path: Path) -> None:
    """word n never occurs in training; what is left is saved, and opens, without the teacher."""
    from transformers import AutoTokenizer

    data = recipe.data.model_copy(update={"train": tmp_path / "train.csv"})
    rows = (job / "train.csv").read_text().replace("wordn", "worda")
    (tmp_path / "train.csv").write_text(rows)
    plan = tuple(
        PlanStep.model_validate(step)
        for step in (
            {"project": {"dimension": "hidden", "size": 12}},
            {"share_layers": {}},
            {"bottleneck": {"size": 4}},
        )
    )
    changes = {"data": data, "plan": plan, "vocabulary": VocabularySettings()}
    result = compress(recipe.model_copy(update=changes), tmp_path / "student")
    opened: Any = load_student(result.student)
    tokenizer = AutoTokenizer.from_pretrained(result.student)
    assert opened.config.vocab_size == len(tokenizer) == 15
    assert tokenizer.tokenize("worda wordn") == ["worda", "[UNK]"]
    layers = opened.bert.encoder.layer
    assert layers[0].output.dense.weight is layers[1].output.dense.weight
    metrics = json.loads((result.student / "metrics.json").read_text())
    assert metrics["vocabulary_size"] == 15


def test_what_penalties_kill_is_gone_from_the_folder(recipe: Recipe, tmp_path: Path) -> None:
    penalties = (
        PenaltyEntry.model_validate({"group_lasso": {"strength": 1e4, "groups": "ffn"}}),
        PenaltyEntry.model_validate({"nuclear_norm": {"strength": 1e-3, "where": "query"}}),
    )
    result = compress(recipe.model_copy(update={"penalties": penalties}), tmp_path / "student")
    rows = {row["parameter"]: row for row in json.loads((result.student / "training.json").read_text())["weights"]}
    up = rows["bert.encoder.layer.0.intermediate.dense.weight"]
    assert up == {**up, "shape": [8, 12], "zero_share": 1.0, "rank": 0}
    metrics = json.loads((result.student / "metrics.json").read_text())
    model: Any = load_student(result.student)
    assert model.bert.encoder.layer[1].intermediate.dense.out_features == 8
    assert metrics["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert metrics["parameters_removed"] == 2 * 8 * 25
    assert 0 < metrics["zero_share"] < 1


def test_every_term_is_learned_from_teacher_outputs_on_disk(recipe: Recipe, tmp_path: Path) -> None:
    weights = {"attention": 1.0, "relations": 1.0, "embeddings": 1.0, "cosine": 1.0, "contrastive": 0.1}
    changes = {
        "objective": ObjectiveSettings(**weights, contrast=ContrastSettings(positives="teacher")),
        "teacher_cache": TeacherCacheSettings(folder=tmp_path / "cache"),
    }
    thorough = recipe.model_copy(update=changes)
    results = [compress(thorough, tmp_path / name) for name in "ab"]  # the second reads what the first wrote
    assert sorted(path.name for path in (tmp_path / "cache").iterdir())[-2:] == ["index.json", "lengths.npy"]
    states = [load_student(result.student).state_dict() for result in results]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    shorter = thorough.model_copy(update={"data": recipe.data.model_copy(update={"max_length": 4})})
    with pytest.raises(InputError, match=r"teacher cache in .*cache is stale: the data changed"):
        compress(shorter, tmp_path / "c")


def test_the_same_seed_gives_the_same_student(recipe: Recipe, result: CompressionResult, tmp_path: Path) -> None:
    seed = recipe.training.seed
    others = [compress(changed(recipe, seed=s), tmp_path / name) for s, name in ((seed, "b"), (seed + 1, "c"))]
    a, b, c = ((each.student / "model.safetensors").read_bytes() for each in (result, *others))
    assert a == b
    assert a != c


@pytest.mark.parametrize("read", ["teacher", "data"])
def test_a_job_never_overwrites_what_it_reads(recipe: Recipe, tmp_path: Path, read: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    data = recipe.data.model_copy(update={"train": tmp_path / "config.json"})
    reading = recipe.model_copy(update={"teacher": tmp_path} if read == "teacher" else {"data": data})
    with pytest.raises(InputError, match=r"is or holds .*, which is read"):
        compress(reading, tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_outputs_and_unfinished_runs_are_not_overwritten(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        compress(recipe, tmp_path / "student")
    assert (tmp_path / "student" / "mine.txt").read_text() == "mine"
    with pytest.raises(InputError, match="There is no unfinished run"):
        compress(recipe, tmp_path / "other", resume=True)


def test_a_finished_run_is_not_resumed(job: Path, result: CompressionResult) -> None:
    with pytest.raises(InputError, match="holds a finished student: there is nothing to resume"):
        edgefold.compress(job / "recipe.yaml", result.student, resume=True)


def test_a_teacher_without_a_head_for_the_task_is_refused(recipe: Recipe, job: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    BertForMaskedLM(BertConfig.from_pretrained(job / "teacher")).save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(job / "teacher").save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match=r"lacks \d weights of a BertForSequenceClassification.*bert\.pooler"):
        compress(recipe.model_copy(update={"teacher": tmp_path / "other"}), tmp_path / "student")


def test_rows_beyond_the_teachers_positions_are_refused_before_any_training(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("text,label\n" + "worda " * 40 + ",1\nwordb,0\n")
    data = recipe.data.model_copy(update={"test": tmp_path / "test.csv", "max_length": 4096})
    with pytest.raises(InputError, match=r"row of data\.test has 40 tokens, the teacher has positions for 32; set"):
        compress(recipe.model_copy(update={"data": data}), tmp_path / "student")
    assert [path.name for path in tmp_path.iterdir()] == ["test.csv"]


def test_a_tokenizer_that_cannot_pad_is_refused(recipe: Recipe, job: Path, tmp_path: Path) -> None:
    shutil.copytree(job / "teacher", tmp_path / "teacher")
    path = tmp_path / "teacher" / "tokenizer_config.json"
    fields = json.loads(path.read_text())
    fields.pop("pad_token")
    path.write_text(json.dumps(fields))
    with pytest.raises(InputError, match="has no padding token, so that its rows make no batches"):
        compress(recipe.model_copy(update={"teacher": tmp_path / "teacher"}), tmp_path / "student")
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]


def test_a_killed_run_resumes_to_the_same_student(recipe: Recipe, job: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of training; --resume ends where the undisturbed run ends."""
    long = changed(recipe, epochs=4, checkpoint_steps=5, batch_size=4)  # two losses are logged
    undisturbed = compress(long, tmp_path / "undisturbed")
    stored = job / "long.yaml"
    from edgefold.recipes.recipe import dump_recipe

    dump_recipe(long, stored)
    kill_in_training(stored, tmp_path / "killed", step=13)
    checkpoints = tmp_path / ".killed.unfinished" / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint-5", "checkpoint-10"}
    assert not (tmp_path / "killed").exists()
    with pytest.raises(InputError, match="go on with --resume"):
        compress(long, tmp_path / "killed")
    with pytest.raises(InputError, match="has another recipe"):
        compress(changed(long, seed=7), tmp_path / "killed", resume=True)
    resumed = compress(long, tmp_path / "killed", resume=True)
    last = [result.curve[-1].figures for result in (undisturbed, resumed)]
    losses = [next(p.figures["loss"] for p in reversed(r.curve) if "loss" in p.figures) for r in (undisturbed, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert last[0]["eval_accuracy"] == last[1]["eval_accuracy"]
    assert not (tmp_path / ".killed.unfinished").exists()


def test_a_plan_that_was_refused_can_be_mended_and_given_again(recipe: Recipe, tmp_path: Path) -> None:
    content = recipe.model_dump(mode="json", exclude_none=True)
    wrong = check_recipe({**content, "plan": [{"select": {"dimension": "nothing", "size": 8}}]})
    with pytest.raises(InputError, match="No dimension matches 'nothing'"):
        compress(wrong, tmp_path / "student")
    assert list(tmp_path.glob("*student*")) == list(tmp_path.glob(".*student*")) == []


def test_labels_that_the_teacher_does_not_know_are_refused(recipe: Recipe, job: Path, tmp_path: Path) -> None:
    rows = (job / "train.csv").read_text().splitlines()
    (tmp_path / "train.csv").write_text("\n".join([*rows[:-1], "worda wordb,2"]))
    data = recipe.data.model_copy(update={"train": tmp_path / "train.csv"})
    with pytest.raises(InputError, match=r"The data have 3 labels .* the teacher has 2 outputs"):
        compress(recipe.model_copy(update={"data": data}), tmp_path / "student")


def test_a_teacher_cache_on_disk_is_refused_where_examples_change(recipe: Recipe, tmp_path: Path) -> None:
    """Masked tokens are drawn anew in every epoch, so what the teacher said of the last draw is of no use."""
    cache = TeacherCacheSettings(folder=tmp_path / "cache")
    changing = recipe.model_copy(update={"task": "masked-language-modeling", "teacher_cache": cache})
    with pytest.raises(InputError, match=r"teacher_cache\.folder cannot be used for masked-language-modeling"):
        compress(changing, tmp_path / "student")
    assert not list(tmp_path.iterdir())
