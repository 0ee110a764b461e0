"""Stages: the student goes from round to round, over tasks and sizes, and a kill in a later one loses nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_jobs import kill_in_training
from task_jobs import PLAN, SIZES, TRAINING, make_tokenizer, write_stages

from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.recipe import Recipe, load_recipe

pytestmark = pytest.mark.filterwarnings("ignore")
REVIEWS = "data: {train: train.csv, validation: validation.csv, test: test.csv, max_length: 16}\n"
TEXTS = "{train: train.txt, validation: validation.txt, test: test.txt, block_length: 16, pairs: nsp}"
PRE_TRAINING = (
    "  - {name: pre-training, task: masked-language-modeling, teacher: pretrained, "
    f"data: {TEXTS}, objective: {{task: 1, logits: 0, hidden: 0, l1: 1.0e-6, l2: 1.0e-6}}, training: {{mode: all}}}}\n"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stages(tmp_path_factory.mktemp("stages"))


def recipe(folder: Path, stages: str, more: str = "", plan: str = PLAN) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(f"teacher: classifier\n{REVIEWS}{plan}{TRAINING}{more}stages:\n{stages}")
    return load_recipe(path)


def test_a_student_goes_from_pretraining_to_its_task(folder: Path, tmp_path: Path) -> None:
    """Body and projections are carried over, the head is the task's; every stage's figures are there by name."""
    seen: list[str] = []
    job = recipe(folder, PRE_TRAINING + "  - {name: fine-tuning}\n")
    result = compress(job, tmp_path / "student", progress=lambda stage, *_: seen.append(stage))
    from transformers import AutoModelForSequenceClassification

    assert AutoModelForSequenceClassification.from_pretrained(result.student).config.hidden_size == 12
    assert load_recipe(result.student / "recipe.yaml") == job
    metrics = json.loads((result.student / "metrics.json").read_text())
    assert 0.9 < metrics["carried_share"] < 1
    assert metrics["pre-training/test_perplexity"] > 1
    assert 0 <= metrics["pre-training/test_pair_accuracy"] <= 1
    assert 0 <= metrics["test_accuracy"] <= 1
    assert max(metrics["pre-training/fold_error"], metrics["fold_error"]) <= 1e-5
    points = json.loads((result.student / "training.json").read_text())["curve"]
    assert list(dict.fromkeys(point["stage"] for point in points)) == ["pre-training", "fine-tuning"]
    assert list(dict.fromkeys(seen)) == [
        "check",
        "pre-training calibrate",
        "pre-training train",
        "fine-tuning calibrate",
        "fine-tuning train",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["student"]


def test_sizes_fall_from_stage_to_stage(folder: Path, tmp_path: Path) -> None:
    """Hidden states are held against the teacher's through both projections all the while."""
    stages = "  - {name: half}\n  - {name: third, plan: [project: {dimension: hidden, size: 6}, "
    stages += "select: {dimension: heads, size: 1}, drop_layers: {keep: [1]}]}\n"
    result = compress(recipe(folder, stages), tmp_path / "student")
    rows = {row["name"]: (row["teacher_size"], row["student_size"]) for row in result.dimensions}
    assert (rows["hidden"], rows["ffn.0"]) == ((24, 6), (48, 16))
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(result.student)
    assert (config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (6, 16, 1)
    losses = [point.figures for point in result.curve if point.stage == "third" and "loss" in point.figures]
    assert all(figures.get("loss_hidden", 0) > 0 for figures in losses)


@pytest.mark.slow
def test_a_kill_in_the_second_stage_loses_nothing(folder: Path, tmp_path: Path) -> None:
    """SIGKILL after a checkpoint of the second stage; --resume ends at the same loss and the same weights."""
    fine = "  - {name: fine-tuning, training: {epochs: 6, checkpoint_steps: 3}}\n"
    job = recipe(folder, PRE_TRAINING + fine)
    undisturbed = compress(job, tmp_path / "undisturbed")
    kill_in_training(folder / "recipe.yaml", tmp_path / "killed", step=7, stage="fine-tuning train")
    stages = tmp_path / ".killed.unfinished" / "stages"
    assert list(stages.glob("fine-tuning/checkpoints/checkpoint-6/trainer_state.json"))
    assert not (tmp_path / "killed").exists()
    assert (stages / "pre-training" / "figures.json").is_file()
    seen: list[str] = []
    resumed = compress(job, tmp_path / "killed", resume=True, progress=lambda stage, *_: seen.append(stage))
    assert "pre-training train" not in seen
    assert [p.figures for p in resumed.curve if p.stage == "pre-training"] == [
        p.figures for p in undisturbed.curve if p.stage == "pre-training"
    ]
    losses = [[p.figures["loss"] for p in r.curve if "loss" in p.figures][-1] for r in (undisturbed, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    one, other = (_weights(result.student) for result in (undisturbed, resumed))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def _weights(student: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(student / "model.safetensors")


def test_what_a_later_stage_would_refuse_is_told_before_any_training(folder: Path, tmp_path: Path) -> None:
    """Its teacher, its plan, its penalties."""
    from transformers import BertConfig, BertForSequenceClassification

    BertForSequenceClassification(BertConfig(**{**SIZES, "num_hidden_layers": 3})).save_pretrained(tmp_path / "deeper")
    make_tokenizer().save_pretrained(tmp_path / "deeper")
    for more, told in {
        f"teacher: {tmp_path / 'deeper'}": "Stage 2 of 2: .*give a checkpoint of the same architecture",
        "plan: [select: {dimension: fnn, size: 8}]": "Stage 2 of 2: .*fnn.*ffn",
        "penalties: [group_lasso: {strength: 0.1, groups: nothing}]": "Stage 2 of 2: .*nothing",
    }.items():
        seen: list[str] = []
        stages = f"  - {{name: one}}\n  - {{name: two, {more}}}\n"
        with pytest.raises(InputError, match=told):
            compress(
                recipe(folder, stages), tmp_path / "student", progress=lambda stage, *_, told=seen: told.append(stage)
            )
        assert set(seen) == {"check"}
    assert [path.name for path in tmp_path.iterdir()] == ["deeper"]


def test_what_the_first_of_several_stages_refuses_is_told_with_its_number(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text("text,label\n" + f"{'worda ' * 90},0\nwordb,1\n" * 4)
    stages = f"  - {{name: one, data: {{train: {tmp_path / 'long.csv'}, max_length: 80}}}}\n"
    for count, told in ((2, "^Stage 1 of 2: .*80"), (1, "^(?!Stage).*80")):
        with pytest.raises(InputError, match=told):
            compress(recipe(folder, stages + "  - {name: two}\n" * (count - 1)), tmp_path / "student")
    assert [path.name for path in tmp_path.iterdir()] == ["long.csv"]


def test_a_bad_row_of_a_later_stage_is_found_before_any_training(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nworda wordb,7\n")
    stages = f"  - {{name: one}}\n  - {{name: two, data: {{train: {tmp_path / 'train.csv'}}}}}\n"
    with pytest.raises(InputError):
        compress(recipe(folder, stages), tmp_path / "student")
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]
