"""Tasks of tensors: modules of one's own with arrays by name, from the recipe to the artifact."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner, Result

import edgefold as ef
from edgefold.data.tensors import Arrays, read_arrays
from edgefold.errors import InputError
from edgefold.graphs.input_facts import describe_inputs, make_up_inputs
from edgefold.jobs.compression import compress
from edgefold.tasks.image_classification import stack
from edgefold.tasks.tensors import TensorRows, evaluate_classes, evaluate_numbers

pytestmark = pytest.mark.filterwarnings("ignore")


class Sensor(nn.Module):
    """A signal and the station that it comes from, as one of three classes or as two numbers."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.stations = nn.Embedding(5, 32)
        self.first, self.norm = nn.Conv1d(4, 16, 3, padding=1), nn.BatchNorm1d(16)
        self.second, self.out = nn.Linear(16, 32), nn.Linear(32, outputs)

    def forward(self, signal: Tensor, station: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(signal))).mean(-1)
        return self.out(torch.relu(self.second(x) + self.stations(station)))


class Mapper(nn.Module):
    """A class for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 4, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(pixels)))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(ef_app(), [str(argument) for argument in arguments])


def ef_app() -> Any:
    from edgefold.cli.application import app

    return app


def draw(rows: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    return {
        "signal": generator.normal(size=(rows, 4, 20)).astype(np.float32),
        "station": generator.integers(0, 5, rows),
    }


def write_job(folder: Path, task: str, *, outputs: int = 3, more: str = "") -> Path:
    """A teacher, data that it labels itself, and a recipe."""
    torch.manual_seed(0)
    module = Sensor(outputs).eval()
    example = {name: torch.from_numpy(array) for name, array in draw(4, 9).items()}
    example["station"] = torch.tensor([0, 4, 2, 1])
    ef.save_student(module, folder / "teacher", inputs=example)
    for seed, (split, rows) in enumerate((("train", 65), ("validation", 24), ("test", 24))):
        arrays = draw(rows, seed)
        with torch.no_grad():
            found = module(**{name: torch.from_numpy(array) for name, array in arrays.items()})
        labels = found.argmax(-1) if "classification" in task else found
        np.savez(folder / f"{split}.npz", **arrays, labels=labels.numpy())
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"teacher: teacher\ntask: {task}\ndata: {{train: train.npz, validation: validation.npz, test: test.npz}}\n"
        "plan: [select: {dimension: channels.0, size: 8}]\n"
        "training: {epochs: 3, batch_size: 8, threads: 1, learning_rate: 3.0e-3}\n"
        f"calibration: {{samples: 32}}\n{more}"
    )
    return recipe


@pytest.fixture(scope="module")
def classifier_job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_job(tmp_path_factory.mktemp("classes"), "tensor-classification")


@pytest.fixture(scope="module")
def student(classifier_job: Path) -> Path:
    return compress(classifier_job, classifier_job.parent / "student").student


def test_a_module_of_ones_own_goes_all_the_way(student: Path, tmp_path: Path) -> None:
    metrics = json.loads((student / "metrics.json").read_text())
    assert metrics["teacher_test_accuracy"] == 1
    assert metrics["test_accuracy"] > 0.5
    shown = invoke("inspect", student, "--json")
    assert shown.exit_code == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert document["inputs"] == {"signal": [4, 20], "station": []}
    (channels,) = [d for d in document["dimensions"] if d["name"] == "channels.0"]
    assert (channels["size"], channels["along"][0]) == (8, "first.weight")
    table = " ".join(invoke("inspect", student).stdout.split())
    assert "first along" in table
    data = student.parent / "test.npz"
    for precision, given in (("fp32", ()), ("int8", ("--calibration", data)), ("fp16", ())):
        out = tmp_path / precision
        exported = invoke("export", student, "--out", out, "--precision", precision, *given)
        assert exported.exit_code == 0, exported.stderr
    for given in ((), ("--data", data)):
        verified = invoke("verify", tmp_path / "fp32", "--against", student, *given, "--json")
        assert verified.exit_code == 0, verified.stderr
    assert json.loads(verified.stdout)["inputs"] == "24 tensors"
    measured = invoke("bench", tmp_path / "fp32", "--against-torch", student, "--batch", 3, "--seconds", 0.05)
    assert measured.exit_code == 0, measured.stderr


def test_numbers_are_told_by_their_share_of_the_variance(tmp_path: Path) -> None:
    recipe = write_job(tmp_path, "tensor-regression", outputs=2)
    result = compress(recipe, tmp_path / "student")
    assert result.metrics["teacher_test_r2"] == pytest.approx(1)
    assert result.metrics["test_r2"] > result.metrics["untrained_r2"] - 0.2
    assert result.metrics["test_mean_squared_error"] > 0
    assert result.curve[-1].step == 3 * (65 // 8)  # the last row of 65 would be a batch of its own
    assert json.loads((tmp_path / "student" / "edgefold.json").read_text())["lineage"]["task"] == "tensor-regression"


@pytest.mark.slow
def test_a_search_takes_them(classifier_job: Path, tmp_path: Path) -> None:
    given = ("--budget", "flops=7K", "--keep", 0.2, "--trials", 1, "--full-trials", 1, "--measured", 5, "--json")
    found = invoke("search", classifier_job, "--out", tmp_path / "search", *given)
    assert found.exit_code == 0, found.stderr


def test_maps_have_a_class_for_each_place(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Mapper().eval()
    pixels = torch.randn(40, 3, 5, 6)
    with torch.no_grad():
        labels = module(pixels).argmax(1)
    labels[:, 0] = -100
    ef.save_student(module, tmp_path / "teacher", inputs={"pixels": pixels[:2]})
    for split in ("train", "validation", "test"):
        np.savez(tmp_path / f"{split}.npz", pixels=pixels.numpy(), labels=labels.numpy())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "teacher: teacher\ntask: tensor-classification\n"
        "data: {train: train.npz, validation: validation.npz, test: test.npz}\n"
        "plan: [select: {dimension: channels.0, size: 8}]\n"
        "training: {epochs: 2, batch_size: 8, threads: 1}\ncalibration: {samples: 32}\n"
    )
    result = compress(recipe, tmp_path / "student")
    assert result.metrics["teacher_test_accuracy"] == 1
    assert 0.25 < result.metrics["test_accuracy"] < 1


class Fixed(nn.Module):
    """Returns what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_scores_against_their_definitions() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(150, 3)).astype(np.float32)
    classes = generator.integers(0, 3, 150)
    classes[:20] = -100
    found = evaluate_classes(Fixed(), TensorRows(Arrays({"x": values}, classes)), stack)
    assert found["accuracy"] == pytest.approx((values.argmax(-1) == classes)[20:].mean())
    targets = values + generator.normal(size=(150, 3)).astype(np.float32)
    scores = evaluate_numbers(Fixed(), TensorRows(Arrays({"x": values}, targets)), stack)
    missed = ((values - targets) ** 2).sum()
    assert scores["mean_squared_error"] == pytest.approx(missed / 450, rel=1e-5)
    assert scores["r2"] == pytest.approx(1 - missed / ((targets - targets.mean(0)) ** 2).sum(), rel=1e-5)
    same = TensorRows(Arrays({"x": values[:, :1]}, np.ones(150, np.float32)))
    assert evaluate_numbers(Fixed(), same, stack)["r2"] == 0


def test_facts_of_inputs_tell_ranges_and_no_values() -> None:
    inputs = {"a": torch.full((3, 4), 2.5), "b": torch.tensor([3, 7, 5]), "c": torch.tensor([True, False, True])}
    facts = describe_inputs(inputs)
    assert facts[1] == {"name": "b", "dtype": "int64", "shape": [], "low": 3, "high": 7}
    made = make_up_inputs(json.loads(json.dumps(facts)), rows=50)
    assert {name: (value.dtype, value.shape[1:]) for name, value in made.items()} == {
        name: (value.dtype, value.shape[1:]) for name, value in inputs.items()
    }
    assert made["b"].min() == 3
    assert made["b"].max() == 7
    torch.testing.assert_close(made["a"], torch.full((50, 4), 2.5))


@pytest.mark.parametrize(
    "change", [{"dtype": "load"}, {"shape": [-3]}, {"shape": "x"}, {"high": "many"}, {"name": None}]
)
def test_facts_that_are_none_are_refused(change: dict[str, Any]) -> None:
    facts = {"name": "b", "dtype": "int64", "shape": [2], "low": 3, "high": 7, **change}
    if change == {"name": None}:
        del facts["name"]
    with pytest.raises(InputError, match="malformed"):
        make_up_inputs([facts])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((3, 2))}, "no array 'labels'; those present are 'x'"),
        ({"labels": np.zeros(3)}, "no array but the labels"),
        ({"x": np.zeros((3, 2)), "labels": np.zeros(4)}, "differ in their numbers of rows"),
        ({"x": np.array([[0, 1], [np.nan, 2]]), "labels": np.zeros(2)}, "x is not finite in row 1"),
        ({"x": np.array(["a"]), "labels": np.zeros(1)}, "an array holds numbers"),
        ({"x": np.zeros((0, 2)), "labels": np.zeros(0)}, "needs rows along its first axis"),
    ],
)
def test_arrays_that_are_none_are_named(arrays: dict[str, Any], said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=said):
        read_arrays(tmp_path / "data.npz", label="labels")


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_arrays(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match="cannot be read as an"):
        read_arrays(tmp_path / "bad.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="without objects"):
        read_arrays(tmp_path / "objects.npz")


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("tensor-classification", {"labels": np.full(24, 5)}, "the teacher tells 3 apart"),
        ("tensor-classification", {"labels": np.zeros(24)}, "classes are whole numbers"),
        ("tensor-classification", {"labels": np.zeros((24, 2), int)}, "label for each place that has logits"),
        ("tensor-classification", {"signal": None}, "the teacher does not take"),
        ("tensor-classification", {"station": np.array([0] * 9 + [6] + [1] * 14)}, "index out of range"),
        ("tensor-classification", {"signal": np.zeros((24, 5, 20), np.float32)}, "the teacher does not take"),
        ("tensor-regression", {"labels": np.zeros((24, 7))}, "of as many numbers"),
    ],
)
def test_what_does_not_fit_the_teacher_is_refused_before_any_work(
    task: str, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    recipe = write_job(tmp_path, task)
    content = {**np.load(tmp_path / "test.npz"), **change}
    np.savez(tmp_path / "test.npz", **{name: array for name, array in content.items() if array is not None})
    with pytest.raises(InputError, match=said):
        compress(recipe, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_a_folder_without_its_inputs_is_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ef.save_student(Mapper().eval(), tmp_path / "own")
    shown = invoke("inspect", tmp_path / "own")
    assert shown.exit_code == 2


def test_int8_of_numbers_is_held_against_their_variance(tmp_path: Path) -> None:
    """One number a row, far from zero: its argmax and its cosine are those of anything."""
    recipe = write_job(tmp_path, "tensor-regression", outputs=1)
    torch.manual_seed(5)
    other = Sensor(1).eval()
    for module, name in ((ef.load_student(tmp_path / "teacher"), "good"), (other, "bad")):
        with torch.no_grad():
            module.get_parameter("out.bias").add_(50.0)
        inputs = {n: torch.from_numpy(array) for n, array in draw(4, 9).items()}
        ef.save_student(module, tmp_path / name, inputs=inputs, lineage={"task": "tensor-regression"})
    data = ("--calibration", tmp_path / "train.npz")
    exported = invoke("export", tmp_path / "good", "--out", tmp_path / "int8", "--precision", "int8", *data, "--json")
    assert exported.exit_code == 0, exported.stderr
    assert "variance kept" in json.loads(exported.stdout)["int8"]["gate"]
    given = ("--data", tmp_path / "test.npz", "--json")
    assert invoke("verify", tmp_path / "int8", "--against", tmp_path / "good", *given).exit_code == 0
    missed = invoke("verify", tmp_path / "int8", "--against", tmp_path / "bad", *given)
    assert missed.exit_code == 3
    assert json.loads(missed.stdout)["outputs"]["output"]["argmax_agreement"] == 1
    assert recipe.is_file()


def test_a_reference_of_other_inputs_is_named(student: Path, tmp_path: Path) -> None:
    assert invoke("export", student, "--out", tmp_path / "fp32").exit_code == 0
    ef.save_student(Mapper().eval(), tmp_path / "other", inputs={"pixels": torch.randn(2, 3, 5, 6)})
    result = invoke("verify", tmp_path / "fp32", "--against", tmp_path / "other")
    assert result.exit_code == 2
    assert "does not take signal" in result.stderr
    result = invoke("verify", tmp_path / "fp32", "--against", student, "--text-pair", "b")
    assert result.exit_code == 2
    assert "--text-pair" in result.stderr


def test_samples_that_the_model_does_not_take_are_refused(student: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "far.npz", **{**draw(4, 0), "station": np.array([0, 1, 2, 77])})
    given = ("--precision", "int8", "--calibration", tmp_path / "far.npz")
    result = invoke("export", student, "--out", tmp_path / "out", *given)
    assert result.exit_code == 2
    assert "index out of range" in result.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_an_array_is_said_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.array([[np.inf]]))
    with pytest.raises(InputError) as raised:
        read_arrays(tmp_path / "data.npz")
    assert str(raised.value) == f"{tmp_path / 'data.npz'}: x is not finite in row 0."
