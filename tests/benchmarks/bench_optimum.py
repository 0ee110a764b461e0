"""Exported students open in optimum-onnx as they are: as ORTModelFor…, and as a pipeline; both answer as our sessions.

optimum-onnx wants an older transformers than edgefold does, so it gets an environment of its own below the cache, made
once from its pins (about a gigabyte). What it cannot open stands in the table with its reason.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipeline_models import MODELS, RATE, write_image
from rich.console import Console
from typer.testing import CliRunner

from edgefold.artifacts import Artifact, Precision, load_artifact
from edgefold.cli.application import app
from edgefold.cli.models import open_model
from edgefold.cli.tables import make_table
from edgefold.downloads import default_cache
from edgefold.exporters import export_generator, export_onnx, write_transformers_js
from edgefold.runtimes import generate, generate_sequence, open_sequence_sessions, open_session

PINS = (
    "optimum-onnx[onnxruntime]==0.1.0",
    "transformers==4.57.6",
    "pillow",
    f"torch=={torch.__version__.partition('+')[0]}",
)
SCRIPT = Path(__file__).with_name("optimum_opening.py")
TOKENS = 12
ERROR = 1e-5
"""Of an output or a score, both from ONNX Runtime, of two versions."""


@dataclass(frozen=True)
class Case:
    task: str
    precision: Precision = "fp32"
    layout: str = "optimum"

    @property
    def name(self) -> str:
        return f"{self.task}-{self.precision}-{self.layout}"


CASES = [
    *(Case(task) for task in MODELS),
    Case("text-classification", "int8"),
    *(Case("text-generation", precision) for precision in ("fp16", "int8", "int4")),
    Case("text-classification", "int8", "transformers.js"),
    Case("text-generation", "int8", "transformers.js"),
]


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of optimum's environment."""
    folder = default_cache() / "optimum-onnx-0.1.0"
    done, pins = folder / "pins", "\n".join(PINS)
    if not done.is_file() or done.read_text() != pins:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, PINS[-1]], check=True)
        subprocess.run([*install, *PINS], check=True)
        done.write_text(pins)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Case -> what was exported for it."""
    root = tmp_path_factory.mktemp("optimum")
    for task, model in MODELS.items():
        (root / task).mkdir()
        model.save(root / task / "student")
    return {case.name: export(case, root / case.task / "student", root / case.task / case.name) for case in CASES}


def export(case: Case, student: Path, out: Path) -> Artifact:
    """As a user does; below fp32 without the gates of quality, at which random weights fail."""
    if case.precision == "fp32":
        result = CliRunner().invoke(app, ["export", str(student), "--out", str(out)])
        assert result.exit_code == 0, result.stderr
        return load_artifact(out)
    model: Any = open_model(student)
    inputs: Any = {name: torch.from_numpy(value) for name, value in read_inputs(case.task, student).items()}
    common: dict[str, Any] = {"precision": case.precision, "tokenizer": student}
    if case.task == "text-generation":
        gates: dict[str, float] = {"least_agreement": 0.0, "most_divergence": 99.0}
        artifact = export_generator(model, inputs, out, **gates, **common)
    else:
        artifact = export_onnx(model, inputs, out, quantization="dynamic", task=case.task, **common)
    return write_transformers_js([artifact], out, overwrite=True) if case.layout != "optimum" else artifact


def read_inputs(task: str, folder: Path) -> dict[str, np.ndarray]:
    """Of the samples, all together."""
    from PIL import Image
    from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

    samples = read_samples(task, folder)
    if task == "image-classification":
        processor: Any = AutoImageProcessor.from_pretrained(folder)
        return dict(processor([Image.open(path) for path in samples], return_tensors="np"))
    if task == "automatic-speech-recognition":
        extractor: Any = AutoFeatureExtractor.from_pretrained(folder)
        return dict(extractor([each["raw"] for each in samples], sampling_rate=RATE, return_tensors="np"))
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    texts = [each if isinstance(each, str) else (each["question"], each["context"]) for each in samples]
    return dict(tokenizer(texts, padding=True, return_tensors="np"))


def read_samples(task: str, folder: Path) -> list[Any]:
    return MODELS[task].samples or [write_image(folder.parent)]


def encoder_inputs(artifact: Artifact, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    wanted = (artifact.parts["encoder"] if artifact.parts else artifact).inputs
    return {name: value for name, value in inputs.items() if name in {spec.name for spec in wanted}}


@pytest.fixture(scope="module")
def theirs(python: Path, artifacts: dict[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Case -> what optimum said."""
    given = []
    for case in CASES:
        artifact = artifacts[case.name]
        inputs = encoder_inputs(artifact, read_inputs(case.task, artifact.folder))
        given.append(
            {
                "task": case.task,
                "folder": str(artifact.folder),
                "inputs": {name: value.tolist() for name, value in inputs.items()},
                "samples": read_samples(case.task, artifact.folder),
                "count": TOKENS,
            }
        )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = [str(python), str(SCRIPT)]
    result = subprocess.run(run, input=json.dumps(given), capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.strip().splitlines()[-1])
    return {case.name: each for case, each in zip(CASES, found, strict=True)}


@pytest.fixture(scope="module")
def table() -> Any:
    rows: list[tuple[str, ...]] = []
    yield rows
    columns = ("task", "precision", "layout", "of the model", "of the pipeline")
    print()
    Console(width=140).print(
        make_table("In optimum-onnx 0.1.0 (transformers 4.57.6), against our session", columns, rows)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_optimum_answers_as_our_session(
    case: Case, artifacts: dict[str, Artifact], theirs: dict[str, dict[str, Any]], table: list[tuple[str, ...]]
) -> None:
    artifact, found = artifacts[case.name], theirs[case.name]
    if "error" in found:
        table.append((case.task, case.precision, case.layout, "not opened", found["error"].splitlines()[0][:60]))
        pytest.fail(found["error"])
    compare = compare_tokens if "tokens" in found else compare_outputs
    told = compare(case.task, artifact, found)
    table.append((case.task, case.precision, case.layout, *told))


def compare_outputs(task: str, artifact: Artifact, found: Mapping[str, Any]) -> tuple[str, str]:
    """Outputs, and the answers of a pipeline whose model is our session."""
    inputs = encoder_inputs(artifact, read_inputs(task, artifact.folder))
    with open_session(artifact) as session:
        ours = session.run(inputs)
        assert set(found["outputs"]) <= set(ours)
        error = max(float(np.abs(ours[name] - value).max()) for name, value in found["outputs"].items())
        answers = [] if task == "question-answering" else answers_of(task, artifact, session)
    assert error < ERROR
    if task == "question-answering":  # transformers 5 has no such pipeline
        answers, found = [likeliest_answer(artifact, ours)], {**found, "answers": [found["answers"][0]["answer"]]}
    assert_alike(answers, found["answers"])
    return f"{len(found['outputs'])} outputs, error {error:.1e}", f"{len(answers)} answers alike"


def likeliest_answer(artifact: Artifact, outputs: Mapping[str, np.ndarray]) -> str:
    """The words of the context from i to j, i <= j, with the largest sum of a start's and an end's logit."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(artifact.folder)
    (sample,) = MODELS["question-answering"].samples
    encoded = tokenizer(sample["question"], sample["context"], return_offsets_mapping=True)
    context = np.array([part == 1 for part in encoded.sequence_ids()])
    sums = outputs["start_logits"][0][:, None] + outputs["end_logits"][0][None]
    allowed = np.triu(np.outer(context, context))
    first, last = np.unravel_index(np.where(allowed, sums, -np.inf).argmax(), sums.shape)
    answer: str = sample["context"][encoded.offset_mapping[first][0] : encoded.offset_mapping[last][1]]
    return answer


def answers_of(task: str, artifact: Artifact, session: Any) -> list[Any]:
    """Of a pipeline here, its model's forward replaced by the session."""
    from transformers import pipeline

    student = artifact.folder.parent / "student"
    model: Any = open_model(student)
    names = {spec.name for spec in session.inputs}
    output = type(
        model(**{name: torch.from_numpy(v) for name, v in read_inputs(task, student).items() if name in names})
    )

    def forward(**given: Any) -> Any:
        found = session.run({name: value.numpy() for name, value in given.items() if name in names})
        return output(**{name: torch.from_numpy(value) for name, value in found.items()})

    model.forward = forward
    key = "image_processor" if task == "image-classification" else "tokenizer"
    ask: Any = pipeline(task, model=model, **{key: str(artifact.folder)})  # type: ignore[call-overload]
    return [ask(sample) for sample in read_samples(task, artifact.folder)]


def assert_alike(ours: Any, theirs: Any) -> None:
    """Nested lists and dicts with equal leaves, numbers nearly so."""
    if isinstance(ours, dict):
        assert set(ours) == set(theirs)
        for name, value in ours.items():
            assert_alike(value, theirs[name])
    elif isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_alike(one, other)
    elif isinstance(ours, str) or ours is None:
        assert ours == theirs
    else:
        assert float(ours) == pytest.approx(float(theirs), abs=ERROR)


def compare_tokens(task: str, artifact: Artifact, found: Mapping[str, Any]) -> tuple[str, str]:
    """Greedy tokens of all rows at once, and the text of each sample by itself."""
    inputs = read_inputs(task, artifact.folder)
    ours = greedy(artifact, inputs)
    skipped = inputs["input_ids"].shape[1] if task == "text-generation" else int("text2text" in task)
    for row, tokens in zip(ours, found["tokens"], strict=True):
        assert tokens[skipped : skipped + len(row)] == row.tolist()
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(artifact.folder)
    for index, answer in enumerate(found["answers"]):
        said = answer["text"] if isinstance(answer, dict) else answer[0]["generated_text"]
        alone = greedy(artifact, read_one(task, artifact.folder, index))
        assert said.strip() == tokenizer.decode(alone[0], skip_special_tokens=True).strip()
    return f"{sum(map(len, ours))} tokens, all the same", f"{len(found['answers'])} texts, all the same"


def read_one(task: str, folder: Path, index: int) -> dict[str, np.ndarray]:
    """A sample's own row, without the others' padding."""
    inputs = {name: value[index : index + 1] for name, value in read_inputs(task, folder).items()}
    if "attention_mask" not in inputs or "input_ids" not in inputs:
        return inputs
    kept = inputs["attention_mask"][0] == 1
    return {name: value[:, kept] for name, value in inputs.items()}


def greedy(artifact: Artifact, inputs: Mapping[str, np.ndarray]) -> list[Any]:
    if artifact.parts:
        with open_sequence_sessions(artifact) as sessions:
            return generate_sequence(sessions, encoder_inputs(artifact, inputs), TOKENS)
    rows = [row[mask == 1] for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
    with open_session(artifact) as session:
        return generate(session, rows, TOKENS)
