"""Every recipe among the examples is whole, and its method runs from start to end, in short, on a tiny teacher."""

import gzip
import shutil
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_scripts import EXAMPLES, load
from packed_whisper import make_whisper, write_packed_whisper
from typer.testing import CliRunner

from edgefold.recipes.recipe import Recipe, check_recipe, load_recipe

RECIPES = sorted((EXAMPLES / "recipes").glob("*.yaml"))
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
        if "keep" in step.get("drop_layers", {}):
            step["drop_layers"]["keep"] = [1]
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
    from edgefold.jobs.compression import compress

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
        from edgefold.masks.checks import check_nm

        assert check_nm(opened, 2, 4, where="encoder") == 12


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", [p for p in RECIPES if load_recipe(p).stages], ids=lambda path: path.stem)
def test_every_recipe_of_stages_runs(path: Path, tmp_path: Path) -> None:
    """From the example's own preparation, on a tiny text: pre-training, then the task, and both are measured."""
    from task_jobs import write_stages

    from edgefold.jobs.compression import compress
    from edgefold.packaged.text import PlainText
    from edgefold.recipes.recipe import TrainingSettings, check_recipe

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


def shortened(name: str, folder: Path, sizes: Mapping[str, int] | None = None) -> Recipe:
    """The recipe from a copy whose relative paths end in `folder`; one epoch, few samples, other sizes where given."""
    (folder / "examples" / "recipes").mkdir(parents=True)
    copy = shutil.copy(EXAMPLES / "recipes" / f"{name}.yaml", folder / "examples" / "recipes")
    content: dict[str, Any] = load_recipe(copy).model_dump(mode="json", exclude_none=True)
    for step in content["plan"]:
        if sizes:
            step["select"]["size"] = sizes[step["select"]["dimension"]]
    content["training"] |= {"epochs": 1, "batch_size": 8, "threads": 1}
    content["calibration"]["samples"] = 16
    if "max_target_length" in content["data"]:
        content["data"]["max_target_length"] = 24  # the tiny Whisper has 32 positions
    return check_recipe(content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_images_from_the_example_to_the_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole network at random, on noise of 32 by 32: its plan's names and sizes are the recipe's own."""
    from safetensors.torch import save_file

    from edgefold.checkpoints import load_student
    from edgefold.cli.application import app
    from edgefold.jobs.compression import compress

    module, example = load("efficientnet_lite"), load("image_teacher")
    for name, value in (("SIZE", 32), ("TEST", 10), ("VALIDATION", 10)):
        monkeypatch.setattr(example, name, value)
    save_file(settled(module.EfficientNetLite0(1000)).state_dict(), tmp_path / "weights.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    digits = (images, np.arange(40) % 10)
    example.main(str(tmp_path / "out" / "images"), tmp_path / "weights.safetensors", digits, epochs=1)
    printed = capsys.readouterr().out
    assert "channels.23" in printed
    assert "of the test's digits" in printed

    result = compress(shortened("images", tmp_path), tmp_path / "student")
    assert result.metrics["fold_error"] <= 1e-5
    student = load_student(result.student)
    teacher = load_student(tmp_path / "out" / "images" / "teacher")
    parameters = [sum(p.numel() for p in model.parameters()) for model in (student, teacher)]
    assert 2.8 * parameters[0] < parameters[1]
    exported = CliRunner().invoke(app, ["export", str(result.student), "--out", str(tmp_path / "onnx")])
    assert exported.exit_code == 0, exported.stderr
    assert (tmp_path / "onnx" / "model.onnx").is_file()


def settled(model: Any) -> Any:
    """The statistics of its norms are those of one batch, so that a fresh network neither fades nor explodes."""
    import torch

    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.randn(64, 3, 32, 32))
    return model


@pytest.mark.filterwarnings("ignore")
def test_speech_from_the_example_to_the_student(tmp_path: Path) -> None:
    """A tiny Whisper of eleven seconds and packages of the same form, with prompts that are left out."""
    from transformers import AutoModelForSpeechSeq2Seq

    from edgefold.jobs.compression import compress
    from edgefold.packaged.speech import convert_whisper

    write_packages(tmp_path / "packages")
    (tmp_path / "packed").mkdir()
    (tmp_path / "whisper").mkdir()
    write_packed_whisper(tmp_path / "packed", make_whisper(11))
    convert_whisper(tmp_path / "packed", tmp_path / "whisper")
    out = tmp_path / "out" / "speech"
    load("speech_teacher").main(str(tmp_path / "packages"), str(out), tmp_path / "whisper")
    rows = {split: (out / "data" / f"{split}.jsonl").read_text() for split in ("train", "validation", "test")}
    assert {split: text.count("\n") for split, text in rows.items()} == {"train": 14, "validation": 2, "test": 2}
    assert rows["test"].startswith('{"audio": "test-0.wav", "text": "he was not"}')
    with wave.open(str(out / "data" / "train-0.wav")) as stream:
        assert (stream.getframerate(), stream.getnframes()) == (16000, 8000)
        samples = np.frombuffer(stream.readframes(8000), "<i2")
    assert np.abs(samples - tone(16000, 8000)).max() <= 2  # rounded twice

    result = compress(shortened("speech", tmp_path, {"units": 16, "ffn": 24, "heads": 2}), tmp_path / "student")
    assert result.metrics["test_word_error_rate"] >= 0
    student = AutoModelForSpeechSeq2Seq.from_pretrained(result.student)
    assert (student.config.encoder_ffn_dim, student.config.decoder_ffn_dim) == (16, 24)
    assert student.config.max_source_positions == 500


def tone(rate: int, count: int) -> np.ndarray:
    """A whole number of periods in half a second, so that it has one line in the spectrum."""
    return np.rint(9000 * np.sin(2 * np.pi * 440 * np.arange(count) / rate)).astype("<i2")


def write_packages(root: Path) -> None:
    """Sixteen prompts of half a second, four that are not taken (text, length, no recording), and two sentences."""
    sounds, books = (
        root / "usr/share/asterisk/sounds/en_US_f_Allison",
        root / "usr/share/pocketsphinx/test/data/librivox",
    )
    listed = root / "usr/share/doc/asterisk-core-sounds-en"
    for folder in (sounds / "digits", books, listed):
        folder.mkdir(parents=True)
    texts = {f"digits/prompt-{number}": "Please say that." for number in range(16)}
    texts |= {
        "beep": "[this is a beep]",
        "short": "Thank you.",
        "long": "This is too long.",
        "none": "This is not there.",
    }
    lines = ["; Sounds", "", *(f"{name}: {text}" for name, text in texts.items())]
    (listed / "core-sounds-en.txt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    for name in [name for name in texts if name != "none"]:
        write_tone(sounds / f"{name}.wav", 8000, 88000 if name == "long" else 4000)
    for name in ("one", "two"):
        write_tone(books / f"{name}.wav", 16000, 8000)
    (books / "transcription").write_text("<s> he was not </s> (one)\n<s> she was </s> (two)\n")


def write_tone(path: Path, rate: int, count: int) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setparams((1, 2, rate, 0, "NONE", ""))
        stream.writeframes(tone(rate, count).tobytes())


@pytest.mark.filterwarnings("ignore")
def test_tensors_from_the_example_to_the_artifact(tmp_path: Path) -> None:
    from edgefold.cli.application import app
    from edgefold.jobs.compression import compress

    out = tmp_path / "out" / "tensors"
    load("tensor_teacher").main(str(out), epochs=1)
    result = compress(shortened("tensors", tmp_path), tmp_path / "student")
    assert 0 < result.metrics["test_accuracy"] <= 1
    assert {d["name"]: d["student_size"] for d in result.dimensions} == {f"channels.{i}": 32 for i in (1, 2, 3)}
    given = ["--precision", "int8", "--quantization", "static", "--calibration", str(out / "test.npz")]
    exported = CliRunner().invoke(app, ["export", str(result.student), "--out", str(tmp_path / "onnx"), *given])
    assert exported.exit_code == 0, exported.stderr


@pytest.mark.filterwarnings("ignore")
def test_preferences_from_the_example_to_the_student(tmp_path: Path, job: Path) -> None:
    """A tiny model and a few rated texts; its tokenizer knows no pairs, the texts stand one behind the other."""
    from edgefold.data.texts import Example, TextSplits
    from edgefold.jobs.compression import compress

    rated = [Example(f"worda word{'bcdefghijk'[i % 10]}", (i % 7) - 3.1) for i in range(30)]
    reviews = TextSplits((), tuple(rated[:20]), tuple(rated[20:25]), tuple(rated[25:]))
    out = tmp_path / "out" / "preferences"
    teacher = load("preference_teacher").main(str(out), 1, job / "teacher", reviews)
    assert (out / "data" / "train.jsonl").read_text().count("\n") == 40
    assert "eval_spearman" in teacher.curve[-1].figures
    recipe = shortened("preferences", tmp_path)
    small = recipe.model_dump(mode="json", exclude_none=True)
    small["plan"] = [{"select": {"dimension": "ffn", "size": 16}}, {"select": {"dimension": "heads", "size": 2}}]
    small["objective"]["hidden"] = 0.0
    result = compress(check_recipe(small), tmp_path / "student")
    assert {"test_pearson", "teacher_test_pearson"} <= result.metrics.keys()
