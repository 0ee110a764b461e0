"""`edgefold bench --against-torch`: a model in torch computes what its artifact does; both take turns."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import generating_models as models
import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from edgefold.artifacts import Artifact, load_artifact
from edgefold.checkpoints import save_student
from edgefold.cli.application import app
from edgefold.cli.torch_rivals import StepByStep, TorchRival
from edgefold.errors import InputError
from edgefold.exporters import export_onnx
from edgefold.exporters.causal_decoders import causal_part
from edgefold.runtimes import benchmark_artifacts, example_inputs, open_session

pytestmark = pytest.mark.filterwarnings("ignore")

OPENING: dict[str, Any] = {"device": "cpu", "threads": 1, "tf32": False}


@pytest.fixture(scope="module")
def folder(
    make_bert: Callable[..., Any],
    text_batch: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A teacher, a student's folder and its artifact."""
    folder = tmp_path_factory.mktemp("rivals")
    make_bert().float().save_pretrained(folder / "teacher")
    plain = make_bert(num_hidden_layers=1).float()
    save_student(plain, folder / "student")
    export_onnx(plain, text_batch(), folder / "onnx")
    return folder


def bench(*arguments: object) -> Result:
    given = ["bench", *arguments, "--seconds", 0.02, "--sequence", 8]
    return CliRunner().invoke(app, [str(argument) for argument in given])


def difference(artifact: Artifact, folder: Path) -> float:
    """The largest, of any output."""
    feeds = example_inputs(artifact.inputs, batch=2, sequence=5, vocab_size=60)
    with TorchRival(folder, artifact, False).opened(**OPENING) as rival, open_session(artifact) as session:
        there, here = rival.run(feeds), session.run(feeds)
    assert list(there) == list(here)
    return max(float(np.abs(there[name] - here[name]).max()) for name in here)


def test_it_computes_what_the_artifact_computes(folder: Path) -> None:
    assert difference(load_artifact(folder / "onnx"), folder / "student") < 1e-5  # float32 sums
    assert difference(load_artifact(folder / "onnx"), folder / "teacher") > 1e-3  # another model is another function


def test_a_language_model_goes_on_after_its_past() -> None:
    model = models.llama()
    step, ids = StepByStep(model), torch.arange(3, 11)[None]
    names = [name for name in causal_part(model).inputs if name.startswith("past_key_values.")]
    past = {name: torch.zeros(1, 3, 0, 4) for name in names}
    found = []
    with torch.no_grad():
        for start, end in ((0, 5), (5, 8)):
            fed = {"input_ids": ids[:, start:end], "position_ids": torch.arange(start, end)[None]}
            outputs = step(**fed, attention_mask=torch.ones(1, end, dtype=torch.long), **past)
            found.append(outputs["logits"])
            past = {name: outputs[name.replace("past_key_values", "present")] for name in names}
        whole = model(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-4)  # float32, of large weights


def test_the_student_against_its_teacher_in_torch(folder: Path) -> None:
    result = bench(folder / "onnx", "--against-torch", folder / "teacher", "--batches", "1,3", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    labels = [str(folder / "onnx"), f"{folder / 'teacher'} (torch)"]
    found = [(report["label"], report["runtime"], report["batch_size"]) for report in document["reports"]]
    assert found == [
        (label, runtime, batch)
        for batch in (1, 3)
        for label, runtime in zip(labels, ("onnxruntime", "torch"), strict=True)
    ]
    assert document["ratio"]["basis"] == "cpu"
    assert document["ratio"]["value"] > 1  # eager torch takes microseconds for each of its operators, of a tiny model
    assert list(document["ratio_by_batch"]) == ["1", "3"]


def test_compiled_it_is_called_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_it, asked = torch.compile, []

    def without_code(module: Any, **options: Any) -> Any:
        asked.append(options)
        return compile_it(module, backend="eager", dynamic=options["dynamic"])

    monkeypatch.setattr(torch, "compile", without_code)
    result = bench(folder / "onnx", "--against-torch", folder / "student", "--torch-compile")
    assert result.exit_code == 0, result.stderr
    assert asked == [{"mode": "default", "dynamic": False}]
    shown = "".join(result.stdout.split())
    assert "(torch.compile)" in shown
    assert "onnxruntimeandtorchoncpu" in shown


def test_a_compiler_that_fails_is_a_matter_of_the_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    compile_it = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **_: compile_it(module, backend=fail))
    result = bench(folder / "onnx", "--against-torch", folder / "student", "--torch-compile")
    assert result.exit_code == 4
    assert "cannot be compiled by torch.compile here" in result.stderr
    assert "no C++ compiler" in result.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--device", "ssh://u@h"), "--against-torch runs torch on this machine, and ssh://u@h is another"),
        (("--concurrency", 2), "leave --concurrency out, or measure the artifact alone with it"),
        (("--memory",), "leave --memory out, or measure the artifact alone with it"),
        (("--against", "{folder}/onnx"), "--against and --against-torch each name the one to compare with"),
    ],
)
def test_what_torch_cannot_be_compared_in(folder: Path, options: tuple[object, ...], told: str) -> None:
    given = [str(option).format(folder=folder) for option in options]
    result = bench(folder / "onnx", "--against-torch", folder / "student", *given)
    assert result.exit_code == 2
    assert told in result.stderr


def test_folders_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    assert "--torch-compile is for the model of --against-torch" in bench(folder / "onnx", "--torch-compile").stderr
    assert "is an exported artifact" in bench(folder / "onnx", "--against-torch", folder / "onnx").stderr
    images = folder / "images"
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 48}
    ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(images)
    result = bench(folder / "onnx", "--against-torch", images)
    assert result.exit_code == 2
    assert "takes input_ids, which the forward of" in result.stderr


def test_pickled_weights_are_never_read(folder: Path, make_bert: Callable[..., Any], tmp_path: Path) -> None:
    model = make_bert()
    model.config.architectures = ["BertForSequenceClassification"]
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be opened as AutoModelForSequenceClassification"):
        TorchRival(tmp_path, load_artifact(folder / "onnx"), False)


def test_sessions_beside_artifacts_are_of_this_machine_and_single(folder: Path) -> None:
    artifact = load_artifact(folder / "onnx")
    feeds = example_inputs(artifact.inputs, batch=1, sequence=4, vocab_size=60)
    with open_session(artifact) as session:
        with pytest.raises(InputError, match="b is open on this machine, so it cannot be measured on ssh://u@h"):
            benchmark_artifacts({"a": artifact}, feeds, device="ssh://u@h", beside={"b": session})
        with pytest.raises(InputError, match="b is one open session; concurrency=2 would take as many"):
            benchmark_artifacts({"a": artifact}, feeds, concurrency=2, beside={"b": session})
        with pytest.raises(InputError, match="a is the label of two"):
            benchmark_artifacts({"a": artifact}, feeds, beside={"a": session})
        found = benchmark_artifacts({"a": artifact}, feeds, min_duration_s=0, min_runs=2, beside={"b": session})
    assert set(found["a"].blocks) == set(found["b"].blocks)
