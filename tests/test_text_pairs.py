"""Pairs of texts and numbers for labels: from the recipe to an artifact that knows which token is of which text."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from task_jobs import SIZES, WORDS, interrupt_and_resume, make_tokenizer, write_job, write_rows
from typer.testing import CliRunner, Result

from edgefold.cli.application import app
from edgefold.data.texts import Example, read_rows, read_text_pairs, read_valued_splits
from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.data import TextData
from edgefold.recipes.recipe import dump_recipe, load_recipe
from edgefold.tasks.text_classification import augment, texts_of, tokenize

pytestmark = pytest.mark.filterwarnings("ignore")
DATA = "{{train: train.jsonl, validation: validation.jsonl, test: test.jsonl, text: a, max_length: 24{}}}"


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def make_teacher(labels: int) -> Any:
    """Whose types of tokens matter."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**SIZES, num_labels=labels))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def write_pairs(folder: Path, numbers: bool = False) -> None:
    for split, count in (("train", 40), ("validation", 16), ("test", 16)):
        rows = []
        for i in range(count):
            a, b = (" ".join(WORDS[(i * k + start) % 14] for k in range(1, 4 + i % 3)) for start in (1, 5))
            rows.append({"a": a, "b": b, "label": i / 7 if numbers else i % 2})
        write_rows(folder / f"{split}.jsonl", rows)


@pytest.fixture(scope="module")
def pair_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(folder)
    return write_job(folder, "text-classification", make_teacher(2), make_tokenizer(), DATA.format(", text_pair: b"))


@pytest.fixture(scope="module")
def pair_student(pair_job: Path) -> Path:
    return compress(pair_job, pair_job.parent / "student").student


def inputs_of(artifact: Path) -> set[str]:
    return {spec["name"] for spec in json.loads((artifact / "artifact.json").read_text())["inputs"]}


def test_rows_of_pairs_say_which_token_is_of_which_text() -> None:
    examples = [Example("worda wordb", 0, "wordc"), Example("worda", 1, "wordb wordc wordd worde wordf wordg")]
    rows = tokenize(examples, make_tokenizer(), 7)
    assert rows[0]["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert rows[1]["token_type_ids"] == [0, 0, 0, 1, 1, 1, 1]  # the longer one is cut
    assert "token_type_ids" not in tokenize([Example("worda", 0)], make_tokenizer(), 7)[0]


def test_both_texts_of_a_pair_are_counted_and_augmented() -> None:
    examples = [Example("worda", 0, "wordb"), Example("wordc", 1, "wordd")]
    assert list(texts_of([*examples, Example("worde", 1)])) == ["worda", "wordb", "wordc", "wordd", "worde"]
    settings = {"copies": 2, "share": 1.0, "neighbours": 3}
    data = TextData(train="a", validation="b", test="c", text_pair="b", augmentation=settings)  # type: ignore[arg-type]
    found = augment(examples, make_tokenizer(), make_teacher(2), data)
    assert [example.label for example in found] == [0, 1] * 3
    assert list(found[:2]) == examples
    assert all(example.pair for example in found)
    assert {example.pair for example in found[2:]} - {"wordb", "wordd"}
    assert {example.text for example in found[2:]} - {"worda", "wordc"}


def test_a_student_of_pairs_goes_all_the_way(pair_student: Path, tmp_path: Path) -> None:
    data = pair_student.parent / "test.jsonl"
    named = ("--text", "a", "--text-pair", "b", "--max-length", 24)
    for precision, given in (("fp32", ()), ("int8", ("--calibration", data, *named))):
        result = invoke("export", pair_student, "--out", tmp_path / precision, "--precision", precision, *given)
        assert result.exit_code == 0, result.stderr
        assert "token_type_ids" in inputs_of(tmp_path / precision)
    verified = invoke("verify", tmp_path / "fp32", "--against", pair_student, "--data", data, *named, "--json")
    assert verified.exit_code == 0, verified.stderr
    assert json.loads(verified.stdout)["inputs"] == "16 pairs"
    measured = invoke("bench", tmp_path / "fp32", "--against-torch", pair_student, "--seconds", 0.05, "--sequence", 8)
    assert measured.exit_code == 0, measured.stderr


def test_a_student_of_pairs_is_not_calibrated_on_single_texts(pair_student: Path, tmp_path: Path) -> None:
    data = pair_student.parent / "test.jsonl"
    given = ("export", pair_student, "--out", tmp_path / "out", "--precision", "int8", "--calibration", data)
    result = invoke(*given, "--text", "a")
    assert result.exit_code == 2
    assert "--text-pair" in result.stderr
    missing = invoke(*given, "--text", "a", "--text-pair", "c")
    assert missing.exit_code == 2
    assert "no column 'c'" in missing.stderr
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_which_nothing_is_known_is_told_the_types(tmp_path: Path) -> None:
    make_teacher(2).save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    write_pairs(tmp_path)
    assert invoke("export", tmp_path / "model", "--out", tmp_path / "onnx").exit_code == 0
    assert "token_type_ids" in inputs_of(tmp_path / "onnx")
    given = ("verify", tmp_path / "onnx", "--against", tmp_path / "model", "--data", tmp_path / "test.jsonl")
    for columns in (("--text", "a"), ("--text", "a", "--text-pair", "b")):
        result = invoke(*given, *columns)
        assert result.exit_code == 0, result.stderr


def test_a_student_of_single_texts_reads_no_types(tmp_path: Path) -> None:
    write_pairs(tmp_path)
    recipe = write_job(tmp_path, "text-classification", make_teacher(2), make_tokenizer(), DATA.format(""))
    student = compress(recipe, tmp_path / "student").student
    assert invoke("export", student, "--out", tmp_path / "onnx").exit_code == 0
    assert inputs_of(tmp_path / "onnx") == {"input_ids", "attention_mask"}
    refused = invoke("export", student, "--out", tmp_path / "two", "--text-pair", "b")
    assert refused.exit_code == 2
    assert "trained on single texts" in refused.stderr


def test_texts_of_other_tasks_have_no_second_one(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForTokenClassification

    BertForTokenClassification(BertConfig(**SIZES, num_labels=4)).save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    result = invoke("export", tmp_path / "model", "--out", tmp_path / "out", "--text-pair", "b")
    assert result.exit_code == 2
    assert "BertForTokenClassification" in result.stderr


def test_a_pair_without_its_second_text_is_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"a": "x", "b": "y", "label": 1}, {"a": "x", "b": " ", "label": 0}])
    with pytest.raises(InputError, match="line 2: empty text in column 'b'"):
        read_rows(path, text="a", label="label", text_pair="b")
    with pytest.raises(InputError, match="no column 'c'"):
        read_text_pairs(path, text="a", text_pair="c")


@pytest.fixture
def valued_job(tmp_path: Path) -> Path:
    write_pairs(tmp_path, numbers=True)
    return write_job(tmp_path, "text-regression", make_teacher(1), make_tokenizer(), DATA.format(", text_pair: b"))


def test_numbers_are_learnt_and_told(valued_job: Path, tmp_path: Path) -> None:
    recipe = load_recipe(valued_job)
    assert (recipe.objective.logits, recipe.objective.outputs) == (0.0, 0.7)
    dump_recipe(recipe, tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml") == recipe
    longer = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 5})})
    result = compress(longer, tmp_path / "student")
    for name in ("pearson", "spearman", "mean_squared_error"):
        assert f"test_{name}" in result.metrics
    assert "loss_outputs" in {name for point in result.curve for name in point.figures}
    exported = invoke("export", result.student, "--out", tmp_path / "onnx")
    assert exported.exit_code == 0, exported.stderr


def test_a_regression_goes_on_after_a_stop(valued_job: Path, tmp_path: Path) -> None:
    whole = load_recipe(valued_job)
    whole = whole.model_copy(update={"training": whole.training.model_copy(update={"epochs": 2})})
    expected = compress(whole, tmp_path / "whole").metrics["test_mean_squared_error"]
    assert interrupt_and_resume(valued_job, tmp_path / "out").metrics["test_mean_squared_error"] == expected


def test_what_is_no_regression_is_refused(valued_job: Path, tmp_path: Path) -> None:
    text = valued_job.read_text()
    valued_job.write_text(text + "objective: {logits: 0.5}\n")
    with pytest.raises(InputError, match="no classes that logits could tell apart"):
        load_recipe(valued_job)
    valued_job.write_text(text)
    make_teacher(3).save_pretrained(valued_job.parent / "teacher")
    with pytest.raises(InputError, match="The teacher has 3 outputs"):
        compress(valued_job, tmp_path / "student")


@pytest.mark.parametrize("label", ['"good"', '"nan"', "null", "true", "[1]"])
def test_a_label_that_is_no_number_is_named(label: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"a": "x", "label": "1.5"}}\n{{"a": "x", "label": {label}}}\n')
    with pytest.raises(InputError, match=r"line 2: .* is no finite number"):
        read_valued_splits({"train": path, "validation": path, "test": path}, text="a", label="label")
