"""The command line: exit statuses, error paragraphs, one JSON object, and no heavy import before it is needed."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from edgefold.cli.answers import Answer, answering
from edgefold.cli.application import COMMANDS, app
from edgefold.cli.failures import describe_failure
from edgefold.errors import DeviceError, EdgefoldError, GateError, InputError

HEAVY = ("torch", "transformers", "onnxruntime", "onnx", "matplotlib", "numpy", "edgefold.runtimes")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def is_paragraph(text: str) -> bool:
    return text.startswith("edgefold: ") and text.count("\n") == 1 and "Traceback" not in text


WRONG_PATHS = {
    "inspect": ["nowhere"],
    "compress": ["nowhere.yaml", "--out", "elsewhere"],
    "export": ["nowhere", "--out", "elsewhere"],
    "verify": ["nowhere", "--against", "elsewhere"],
    "bench": ["nowhere"],
}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--help"], 0), (["bench", "--help"], 0), *(([name, *rest], 2) for name, rest in WRONG_PATHS.items())],
)
def test_no_heavy_import_for_help_or_a_wrong_path(arguments: list[str], status: int) -> None:
    code = (
        f"import sys; sys.argv = ['edgefold', *{arguments!r}]\n"
        "from edgefold.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: status = end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1] == f"[] {status}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_json_and_debug(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    for expected in ("Example:", f"edgefold {command}", "--json", "--debug"):
        assert expected in result.stdout


def test_help_and_version() -> None:
    assert invoke("--help").exit_code == 0
    assert invoke("--version").stdout.startswith("edgefold ")


@pytest.mark.parametrize(
    "arguments", [["nosuch"], ["bench"], ["bench", "a", "--device", "tpu"], ["bench", "a", "--batch", "0"]]
)
def test_bad_usage_exits_2(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == 2


@pytest.mark.parametrize("command", WRONG_PATHS)
def test_a_wrong_path_is_named(command: str) -> None:
    result = invoke(command, *WRONG_PATHS[command])
    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert "does not exist; give a f" in result.stderr
    assert is_paragraph(result.stderr)
    assert result.stdout == ""


def test_paths_of_the_wrong_kind(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "artifact.json").touch()
    assert "is a file; give a folder" in invoke("inspect", tmp_path / "file").stderr
    assert "has no config.json" in invoke("inspect", tmp_path).stderr
    assert "is an exported artifact" in invoke("inspect", tmp_path / "artifact").stderr
    assert "has no artifact.json" in invoke("bench", tmp_path).stderr
    assert "is a folder; give the name of a file" in invoke("bench", tmp_path / "artifact", "--out", tmp_path).stderr
    assert "is a folder; give a file" in invoke("compress", tmp_path, "--out", tmp_path / "o").stderr


def test_an_existing_output_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("this: is no recipe\n")
    for arguments in (["compress", tmp_path / "recipe.yaml", "--out", tmp_path], ["demo", "--out", tmp_path]):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert "exists and is not empty" in result.stderr


def test_static_int8_asks_for_texts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    result = invoke("export", tmp_path, "--out", tmp_path / "out", "--precision", "int8")
    assert result.exit_code == 2
    assert "give --calibration FILE" in result.stderr
    assert "--quantization dynamic" in result.stderr


def test_an_error_under_json_is_one_object_too() -> None:
    result = invoke("bench", "nowhere", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["kind"] == "InputError"
    assert is_paragraph(result.stderr)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (EdgefoldError("it failed"), 1, "it failed"),
        (InputError("two\nlines"), 2, "two lines"),
        (GateError("too much lost"), 3, "too much lost"),
        (DeviceError("not there"), 4, "not there"),
        (RuntimeError("boom"), 1, "RuntimeError: boom (--debug shows the traceback)"),
        (OSError(28, "No space left on device"), 1, "No space left"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "pip install 'edgefold[train]'"),
        (ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime.capi"), 2, "edgefold[onnxruntime]"),
        (MemoryError(), 1, "out of memory"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_exceptions_become_paragraphs_and_statuses(error: BaseException, status: int, words: str) -> None:
    failure = describe_failure(error)
    assert failure.exit_code == status
    assert words in failure.message
    assert "\n" not in failure.message


def small_application(raised: BaseException | None = None) -> typer.Typer:
    application = typer.Typer(pretty_exceptions_enable=False)

    def work(value: int = 3) -> Answer:
        print("a library that prints")
        if raised:
            raise raised
        return Answer({"value": value}, (f"value {value}",), exit_code=3)

    application.command()(answering(work))
    return application


def test_json_is_all_there_is_on_stdout() -> None:
    result = CliRunner().invoke(small_application(), ["--value", "4", "--json"])
    assert json.loads(result.stdout) == {"value": 4}
    assert "a library that prints" in result.stderr
    assert result.exit_code == 3


def test_people_get_the_texts() -> None:
    assert CliRunner().invoke(small_application(), []).stdout == "a library that prints\nvalue 3\n"


def test_a_traceback_only_with_debug() -> None:
    application = small_application(RuntimeError("boom"))
    assert "Traceback" not in CliRunner().invoke(application, []).stderr
    code = "from test_cli import small_application; small_application(RuntimeError('boom'))(['--debug'])"
    folder = Path(__file__).parent
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert "Traceback" in result.stderr
    assert "edgefold: The command failed: RuntimeError: boom" in result.stderr
    assert result.returncode == 1


def test_a_reader_that_left_is_no_error() -> None:
    result = subprocess.run(
        f"{sys.executable} -m edgefold.cli doctor --json | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "BrokenPipe" not in result.stderr


def test_doctor_looks_torch_up_without_importing_it() -> None:
    code = "import sys; from edgefold.cli.examination import examine; print(examine().document, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'what': 'torch'" in result.stdout
    assert result.stdout.strip().endswith("False")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny teacher, its data and a recipe."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("job")
    words = ["[PAD]", "[UNK]", *(f"word{letter}" for letter in "abcdefghijklmn")]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder / "teacher")
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder / "teacher")
    for split, count in (("train", 48), ("validation", 8), ("test", 8)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            texts = [" ".join(words[2 + (i * k) % 14] for k in range(3, 9)) for i in range(count)]
            csv.writer(file).writerows([("text", "label"), *((text, i % 2) for i, text in enumerate(texts))])
    (folder / "recipe.yaml").write_text(
        "teacher: teacher\n"
        "data: {train: train.csv, validation: validation.csv, test: test.csv, max_length: 16}\n"
        "plan: [project: {dimension: hidden, size: 12}, select: {dimension: ffn, size: 16}]\n"
        "training: {epochs: 1, batch_size: 16, threads: 1}\n"
        "calibration: {samples: 32}\n"
    )
    return folder


@pytest.mark.filterwarnings("ignore")
def test_inspect_lists_the_dimensions(job: Path) -> None:
    document = json.loads(invoke("inspect", job / "teacher", "--sequence", 8, "--json").stdout)
    hidden = next(d for d in document["dimensions"] if d["name"] == "hidden")
    assert (hidden["size"], hidden["kind"]) == (24, "linear")
    assert document["macs"] > 0
    table = invoke("inspect", job / "teacher", "--sequence", 8).stdout
    assert "Project or keep" in table
    assert "ffn.0 … ffn.1" in table


@pytest.mark.filterwarnings("ignore")
def test_inspect_refuses_broken_weights(job: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((job / "teacher" / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    result = invoke("inspect", tmp_path)
    assert result.exit_code == 2
    assert is_paragraph(result.stderr[result.stderr.index("edgefold: ") :])
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read as JSON" in invoke("inspect", tmp_path).stderr


@pytest.mark.filterwarnings("ignore")
def test_compress_writes_a_student(job: Path) -> None:
    result = invoke("compress", job / "recipe.yaml", "--out", job / "student", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert {d["name"]: d["student_size"] for d in document["dimensions"]}["hidden"] == 12
    assert (job / "student" / "recipe.yaml").is_file()
    assert "train: 3 of 3" in result.stderr
    assert invoke("compress", job / "recipe.yaml", "--out", job / "student").exit_code == 2
    assert invoke("inspect", job / "student", "--sequence", 8).exit_code == 0


def test_compress_names_the_bad_key(job: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((job / "recipe.yaml").read_text() + "trainig: {}\n")
    result = invoke("compress", recipe, "--out", tmp_path / "student")
    assert result.exit_code == 2
    assert "trainig is no known key; did you mean training?" in result.stderr
    assert not (tmp_path / "student").exists()
