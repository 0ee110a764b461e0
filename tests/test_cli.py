"""The command line: exit statuses, error paragraphs, one JSON object, and no heavy import before it is needed."""

import json
import subprocess
import sys
from pathlib import Path

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
    "compare": ["nowhere.json"],
    "report": ["nowhere.json"],
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


def test_a_folder_is_reported_as_that_of_a_demo_and_by_itself(tmp_path: Path) -> None:
    assert "summary.json does not exist" in invoke("report", tmp_path).stderr
    (tmp_path / "r.json").write_text("{}")
    result = invoke("report", tmp_path, tmp_path / "r.json")
    assert (result.exit_code, "is a folder; give one folder of the demo" in result.stderr) == (2, True)


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


def test_an_export_never_overwrites_its_student(tmp_path: Path) -> None:
    student = tmp_path / "student"
    student.mkdir()
    (student / "config.json").write_text("{}")
    for out in (student, tmp_path):
        result = invoke("export", student, "--out", out, "--overwrite")
        assert result.exit_code == 2
        assert f"holds {student}, which is read" in result.stderr
    assert [path.name for path in student.iterdir()] == ["config.json"]


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
    result = CliRunner().invoke(small_application(), [])
    assert (result.stdout, result.stderr) == ("value 3\n", "a library that prints\n")


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
