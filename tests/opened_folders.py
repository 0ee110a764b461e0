"""What exported folders answer in our sessions, held against what another program said of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipeline_models import MODELS, RATE, write_image

from edgefold.artifacts import Artifact, Precision
from edgefold.cli.models import open_model
from edgefold.exporters import export_generator, export_onnx
from edgefold.runtimes import generate, generate_sequence, open_sequence_sessions, open_session

TOKENS = 12


def export_lower(task: str, student: Path, out: Path, precision: Precision, opset: int | None = None) -> Artifact:
    """Without the gates of quality, at which random weights fail."""
    model: Any = open_model(student)
    inputs: Any = {name: torch.from_numpy(value) for name, value in read_inputs(task, student).items()}
    common: dict[str, Any] = {"precision": precision, "tokenizer": student, "opset": opset}
    if "generation" in task or "speech" in task:
        gates: dict[str, float] = {"least_agreement": 0.0, "most_divergence": 99.0, "half_tolerance": 1.0}
        return export_generator(model, inputs, out, **gates, **common)
    return export_onnx(model, inputs, out, quantization="dynamic", task=task, **common)


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


def compare_outputs(task: str, artifact: Artifact, found: Mapping[str, Any], tolerance: float) -> tuple[str, str]:
    """Outputs, and the answers of a pipeline whose model is our session."""
    inputs = encoder_inputs(artifact, read_inputs(task, artifact.folder))
    with open_session(artifact) as session:
        ours = session.run(inputs)
        assert set(found["outputs"]) <= set(ours)
        error = max(float(np.abs(ours[name] - value).max()) for name, value in found["outputs"].items())
        answers = [] if task == "question-answering" else answers_of(task, artifact, session)
    assert error < tolerance
    if task == "question-answering":  # transformers 5 has no such pipeline
        answers = [{"answer": likeliest_answer(artifact, ours)}]
    assert_alike(answers, found["answers"], tolerance)
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


def assert_alike(ours: Any, theirs: Any, tolerance: float) -> None:
    """Nested lists and dicts with equal leaves, numbers nearly so; of a dict, what both tell."""
    if isinstance(ours, dict):
        assert set(ours) & set(theirs)
        for name in set(ours) & set(theirs):
            assert_alike(ours[name], theirs[name], tolerance)
    elif isinstance(ours, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_alike(one, other, tolerance)
    elif isinstance(ours, str) or ours is None:
        assert ours == theirs
    else:
        assert float(ours) == pytest.approx(float(theirs), abs=tolerance)


def compare_tokens(task: str, artifact: Artifact, found: Mapping[str, Any], starts: int) -> tuple[str, str]:
    """Greedy tokens of all rows at once, and the text of each sample by itself.

    Args:
        starts: tokens that a decoder of an encoder-decoder begins with and the other program gives back.
    """
    inputs = read_inputs(task, artifact.folder)
    ours = greedy(artifact, inputs)
    skipped = inputs["input_ids"].shape[1] if task == "text-generation" else starts
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
