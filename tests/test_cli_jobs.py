"""inspect, compress, export and verify on the command line, from a tiny teacher to an artifact."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from edgefold.cli.application import app
from edgefold.cli.inspect import group_rows
from edgefold.openvino_modules import can_quantize

pytestmark = pytest.mark.filterwarnings("ignore")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_inspect_lists_the_dimensions(job: Path) -> None:
    document = json.loads(invoke("inspect", job / "teacher", "--sequence", 8, "--json").stdout)
    hidden = next(d for d in document["dimensions"] if d["name"] == "hidden")
    assert (hidden["size"], hidden["kind"]) == (24, "linear")
    assert document["macs"] > 0
    table = invoke("inspect", job / "teacher", "--sequence", 8).stdout
    assert "Project or keep" in table
    assert "ffn.0 … ffn.1" in table


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["hidden"], "hidden"),
        (["ffn.0", "ffn.1", "ffn.2"], "ffn.0 … ffn.2"),
        (["heads.2", "heads.4"], "heads.2, heads.4"),
        (["heads.0", "heads.2", "heads.4", "heads.6"], "heads.0, heads.2 … heads.6"),
    ],
)
def test_a_row_names_what_it_stands_for(names: list[str], shown: str) -> None:
    facts = {"kind": "heads", "size": 4, "parameters": 1, "macs": 1, "reason": "", "allowed": "keep"}
    assert [row[:2] for row in group_rows([{"name": name, **facts} for name in names])] == [(shown, len(names))]


def test_inspect_needs_a_configuration_alone(tmp_path: Path) -> None:
    """Shapes on the meta device: a model of any size, without its weights; encoder-decoders and decoders too."""
    from transformers import LlamaConfig, T5Config

    sizes = {"hidden_size": 2048, "intermediate_size": 4096, "num_hidden_layers": 1, "num_attention_heads": 16}
    LlamaConfig(**sizes, num_key_value_heads=4, architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path / "llama")
    small = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 1, "num_heads": 3, "vocab_size": 101}
    T5Config(**small, architectures=["T5ForConditionalGeneration"]).save_pretrained(tmp_path / "t5")
    document = json.loads(invoke("inspect", tmp_path / "llama", "--sequence", 8, "--json").stdout)
    kinds = {d["name"]: (d["kind"], d["size"]) for d in document["dimensions"]}
    assert document["class"] == "LlamaForCausalLM"
    assert (kinds["hidden"], kinds["heads.0"], kinds["queries.0"]) == (("linear", 2048), ("heads", 4), ("heads", 4))
    assert document["parameters"] > 100_000_000
    assert json.loads(invoke("inspect", tmp_path / "t5", "--json").stdout)["class"] == "T5ForConditionalGeneration"


def test_inspect_refuses_a_broken_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    result = invoke("inspect", tmp_path)
    assert result.exit_code == 2
    assert f"The model {tmp_path} cannot be built" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def student(job: Path) -> Path:
    result = invoke("compress", job / "recipe.yaml", "--out", job / "student", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert {d["name"]: d["student_size"] for d in document["dimensions"]}["hidden"] == 12
    assert "train: 3 of 3" in result.stderr
    return job / "student"


def test_compress_writes_a_student(job: Path, student: Path) -> None:
    assert (student / "recipe.yaml").is_file()
    assert invoke("inspect", student, "--sequence", 8).exit_code == 0
    assert "exists and is not empty" in invoke("compress", job / "recipe.yaml", "--out", student).stderr


def test_a_student_that_from_pretrained_does_not_open_is_told(job: Path, tmp_path: Path) -> None:
    content = (job / "recipe.yaml").read_text().replace(", select: {dimension: heads, size: 2}", "")
    (job / "odd.yaml").write_text(content)
    said = " ".join(invoke("compress", job / "odd.yaml", "--out", tmp_path / "odd").stdout.split())
    assert "is opened by edgefold.load_student: no configuration of its architecture describes sizes like these" in said


def test_resume_without_an_unfinished_run(job: Path, tmp_path: Path) -> None:
    result = invoke("compress", job / "recipe.yaml", "--out", tmp_path / "new", "--resume")
    assert result.exit_code == 2
    assert "no unfinished run" in result.stderr


def test_a_corrupt_student_is_refused(student: Path, tmp_path: Path) -> None:
    shutil.copytree(student, tmp_path / "student")
    (weights,) = (tmp_path / "student").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for arguments in (["inspect"], ["export", "--out", tmp_path / "artifact"]):
        result = invoke(arguments[0], tmp_path / "student", *arguments[1:])
        assert result.exit_code == 2
        assert f"{weights.name} is corrupt" in result.stderr
    assert not (tmp_path / "artifact").exists()


def test_export_and_verify_fp32(job: Path, student: Path, tmp_path: Path) -> None:
    result = invoke("export", student, "--out", tmp_path / "fp32", "--max-length", 16, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["parity"]["fp32"] < 1e-4
    given = ("verify", tmp_path / "fp32", "--against", student, "--data", job / "test.csv", "--max-length", 16)
    assert invoke(*given).exit_code == 0
    lineage = json.loads((tmp_path / "fp32" / "artifact.json").read_text())["lineage"]
    assert lineage["teacher"] == "teacher"
    assert invoke("export", student, "--out", tmp_path / "fp32").exit_code == 2


@pytest.mark.parametrize("quantization", ["static", "dynamic"])
def test_export_int8(job: Path, student: Path, tmp_path: Path, quantization: str) -> None:
    given = ["--precision", "int8", "--quantization", quantization, "--max-length", 16]
    given += ["--calibration", str(job / "train.csv")] if quantization == "static" else []
    result = invoke("export", student, "--out", tmp_path / "int8", *given)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "int8" / "artifact.json").read_text())["precision"] == "int8"


def test_int8_is_chosen_by_measuring_and_says_what_was_tried(job: Path, student: Path, tmp_path: Path) -> None:
    given = ["--precision", "int8", "--max-length", 16, "--calibration", job / "train.csv", "--sensitivity"]
    result = invoke("export", student, "--out", tmp_path / "int8", *given, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    lineage = json.loads((tmp_path / "int8" / "artifact.json").read_text())["lineage"]
    assert document["int8"] == lineage["int8"]
    tried = {candidate["name"]: candidate for candidate in lineage["int8"]["candidates"]}
    assert {"static", "dynamic"} <= tried.keys()
    assert tried["static"]["runtime"] == "onnxruntime"
    if can_quantize():
        assert tried["static for openvino"]["runtime"] == "openvino"
    good = [c for c in tried.values() if c["same argmax"] >= lineage["int8"]["gate"]["same argmax"]]
    assert min(good, key=lambda c: c["seconds"])["name"] == lineage["int8"]["chosen"]
    errors = [layer["error"] for layer in document["sensitivity"]]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[0] < 1


def test_export_fp16_says_what_stays_in_fp32(job: Path, student: Path, tmp_path: Path) -> None:
    result = invoke("export", student, "--out", tmp_path / "fp16", "--precision", "fp16", "--max-length", 16)
    assert result.exit_code == 0, result.stderr
    assert "kept in fp32" in result.stdout
    assert "LayerNormalization" in result.stdout
    assert invoke("verify", tmp_path / "fp16", "--against", student, "--max-length", 16).exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sensitivity"], "--sensitivity is measured where int8 is chosen: give --precision int8"),
        (["--opset", 12], "opset=12 is too old"),
        (["--target", "tensorrt-8.6", "--opset", 20], "tensorrt-8.6 reads opsets up to 17"),
        (["--precision", "int4", "--target", "tensorrt"], "tensorrt does not read int4"),
    ],
)
def test_precisions_and_targets_that_do_not_fit_are_refused(
    student: Path, tmp_path: Path, options: list[object], message: str
) -> None:
    result = invoke("export", student, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_export_takes_an_ordinary_checkpoint(job: Path, tmp_path: Path) -> None:
    result = invoke("export", job / "teacher", "--out", tmp_path / "teacher", "--max-length", 16)
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "teacher" / "artifact.json").read_text())["task"] == "text-classification"


def test_export_names_a_missing_column_and_tokenizer(job: Path, student: Path, tmp_path: Path) -> None:
    given = ["--precision", "int8", "--calibration", job / "train.csv", "--text", "review"]
    result = invoke("export", student, "--out", tmp_path / "int8", *given)
    assert result.exit_code == 2
    assert "no column 'review'; those present are 'text', 'label'" in result.stderr
    for name in ("config.json", "model.safetensors"):
        shutil.copy(job / "teacher" / name, tmp_path / name)
    assert "has no tokenizer" in invoke("export", tmp_path, "--out", tmp_path / "fp32").stderr


def test_compress_names_the_bad_key(job: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((job / "recipe.yaml").read_text() + "trainig: {}\n")
    result = invoke("compress", recipe, "--out", tmp_path / "student")
    assert result.exit_code == 2
    assert "trainig is no known key; did you mean training?" in result.stderr
    assert not (tmp_path / "student").exists()
