"""OpenVINO: the graph's function in the precision that was asked for, and a refusal for all else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgefold.artifacts import Artifact, write_artifact
from edgefold.errors import DeviceError, InputError
from edgefold.runtimes import benchmark, open_session, verify_outputs
from edgefold.runtimes.agent import openvino_models
from edgefold.runtimes.agent.refusals import Refused

Make = Callable[..., Artifact]


def feeds(batch: int = 2, sequence: int = 4, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    return {name: generator.integers(0, 9, (batch, sequence)) for name in ("input_ids", "attention_mask")}


def rewrite(artifact: Artifact, **fields: Any) -> Artifact:
    names = ("format", "precision", "target", "model_file", "inputs", "outputs")
    return write_artifact(artifact.folder, **{**{name: getattr(artifact, name) for name in names}, **fields})


def open_it(artifact: Artifact | Path, **options: Any) -> Any:
    return open_session(artifact, runtime="openvino", **options)


@pytest.fixture(scope="module")
def artifact(make_artifact: Make, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("openvino") / "a")


@pytest.fixture(scope="module")
def session(artifact: Artifact) -> Any:
    with open_it(artifact, threads=1) as session:
        yield session


def test_it_computes_what_onnxruntime_computes(artifact: Artifact, session: Any) -> None:
    batches = [feeds(batch, seed=batch) for batch in (1, 5, 2)]  # growing and shrinking: no size is kept
    with open_session(artifact) as reference:
        found = verify_outputs(session.run, reference.run, batches, tolerance=1e-5)  # float32 sums
    assert found.passed


def test_outputs_are_the_callers_own(session: Any) -> None:
    first = session.run(feeds(seed=1))["logits"]
    kept = first.copy()
    session.run(feeds(seed=2))
    np.testing.assert_array_equal(first, kept)


def test_views_and_transposed_arrays_are_read_as_they_are(session: Any) -> None:
    plain = feeds(4)
    strided = {name: np.asfortranarray(value) for name, value in plain.items()}
    np.testing.assert_array_equal(session.run(plain)["logits"], session.run(strided)["logits"])


def test_weights_beside_the_graph_are_found(make_artifact: Make, tmp_path: Path, session: Any) -> None:
    with open_it(make_artifact(tmp_path / "aside", external=True)) as aside:
        np.testing.assert_array_equal(aside.run(feeds())["logits"], session.run(feeds())["logits"])


def test_it_says_what_it_is_and_in_which_precision(artifact: Artifact, session: Any) -> None:
    assert (session.label, session.runtime, session.device, session.precision) == ("a", "openvino", "cpu", "fp32")
    assert session.model_sha256 == artifact.files["model.onnx"].sha256
    settings = session.settings()
    assert (settings["threads"], settings["streams"], settings["pinned"]) == (1, 1, False)
    assert (settings["inference_precision"], settings["devices"]) == ("f32", ["CPU"])
    assert not {"bf16", "f16"} & set(settings["nodes"])
    assert settings["version"] == openvino_models.openvino.get_version()


def test_it_is_measured_like_any_other(session: Any) -> None:
    report = benchmark(session, feeds(), warmup_s=0, min_duration_s=0, min_runs=5)
    assert (report.runtime, report.settings["inference_precision"]) == ("openvino", "f32")
    assert len(report.times_s) >= 5


def test_a_precision_that_was_not_asked_for_is_refused(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_models, "_precision", lambda compiled: "bf16")
    with pytest.raises(DeviceError, match=r"a would be computed in bf16 by OpenVINO .* although f32 was asked for"):
        open_it(artifact)


def test_another_device_than_asked_for_is_refused(artifact: Artifact, session: Any) -> None:
    with pytest.raises(Refused, match="a would run on CPU although GPU was asked for"):
        openvino_models.refuse_fall_back("a", session._compiled, "f32", "GPU")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "got nothing"),
        ({"input_ids": np.ones((2, 4), np.int32)}, r"input_ids must be an array of int64; got int32"),
        ({"input_ids": np.ones((2, 7), np.int64)}, r"input_ids must have the shape \(batch, 4\); got \(2, 7\)"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(session: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        session.run({**feeds(), **given} if given else {})


def test_sizes_that_the_graph_refuses_although_the_specs_allow_them(make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    loose = [spec.model_copy(update={"shape": ("batch", "sequence")}) for spec in artifact.inputs]
    with (
        open_it(rewrite(artifact, inputs=loose)) as session,
        pytest.raises(InputError, match=r"a does not run on .*\(2, 7\).*: \S"),
    ):
        session.run(feeds(sequence=7))


def test_a_manifest_that_is_wrong_about_the_graph(make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    half = [spec.model_copy(update={"dtype": "float16"}) for spec in artifact.outputs]
    with pytest.raises(InputError, match="the output logits of float16; OpenVINO finds float32"):
        open_it(rewrite(artifact, outputs=half))
    other = [spec.model_copy(update={"name": "ids"}) for spec in artifact.inputs[:1]]
    with pytest.raises(
        InputError, match=r"the input ids of int64; OpenVINO finds only \['attention_mask', 'input_ids'\]"
    ):
        open_it(rewrite(artifact, inputs=other))


def test_a_graph_that_openvino_does_not_know(make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    model = onnx.load(artifact.model_path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, artifact.model_path)
    with pytest.raises(InputError, match=r"openvino cannot open .*model\.onnx: \S"):
        open_it(rewrite(artifact))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": 0}, "threads=0 must be at least 1"),
        ({"spinning": True}, "cannot be told to spin"),
        ({"device": "cuda"}, "no device 'cuda' for openvino; choose one of cpu"),
    ],
)
def test_what_it_cannot_do_is_refused(artifact: Artifact, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_it(artifact, **options)


def test_a_closed_session_is_refused(artifact: Artifact) -> None:
    with open_it(artifact) as session:
        pass
    with pytest.raises(InputError, match="session of a is closed"):
        session.run(feeds())
    session.close()  # twice is no error
