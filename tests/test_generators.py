"""export_generator: with the cache, cut anywhere, the graphs compute what torch does; greedy text is equal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import generating_models as models
import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from torch import nn

from edgefold.artifacts import Artifact, load_artifact
from edgefold.errors import GateError, InputError
from edgefold.exporters import export_generator, generators, quantize_onnx
from edgefold.runtimes import generate, generate_sequence, open_sequence_sessions, open_session
from edgefold.runtimes.generation import CausalSteps
from edgefold.runtimes.sequence_generation import SequenceSteps

Make = Callable[..., Any]
TOLERANCE = 2e-5
"""Of logits up to about 10 in float32."""
LENGTH = 11


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export_generator(models.llama(), models.texts(), tmp_path_factory.mktemp("llama") / "out")


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export_generator(models.t5(), models.texts(), tmp_path_factory.mktemp("t5") / "out")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export_generator(models.whisper(), models.features(), tmp_path_factory.mktemp("whisper") / "out")


@pytest.mark.parametrize("left", [False, True])
def test_a_text_cut_anywhere_gives_the_logits_of_one_pass(llama: Artifact, left: bool) -> None:
    batch = models.texts(left=left)
    ids, mask = batch["input_ids"].numpy(), batch["attention_mask"].numpy()
    positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        expected = models.llama()(**batch, position_ids=positions).logits.numpy()
    with open_session(llama) as session:
        for cut in range(LENGTH):
            steps = CausalSteps(session, mask)
            pieces = [steps.advance(piece) for piece in (ids[:, :cut], ids[:, cut:]) if piece.shape[1]]
            found = np.concatenate(pieces, axis=1)
            np.testing.assert_allclose(found[mask == 1], expected[mask == 1], rtol=0, atol=TOLERANCE)
            assert all(value.shape == (3, 3, LENGTH, 4) for value in steps.cache.values())


def test_greedy_text_is_that_of_torch(llama: Artifact) -> None:
    batch = models.texts(left=True)
    with torch.no_grad():
        expected = models.llama().generate(**batch, max_new_tokens=20, do_sample=False, eos_token_id=None)
    with open_session(llama) as session:
        rows = [row[mask == 1] for row, mask in zip(*(value.numpy() for value in batch.values()), strict=True)]
        found = generate(session, rows, 20, end_ids=())
        alone = [generate(session, [row], 20, end_ids=())[0] for row in rows]
    np.testing.assert_array_equal(np.stack(found), expected[:, LENGTH:].numpy())
    np.testing.assert_array_equal(np.stack(found), np.stack(alone))
    assert len(np.unique(np.stack(found))) > 5  # no loop over one token, which any error would give too


def test_an_artifact_says_its_task_and_the_layout_of_its_cache(llama: Artifact) -> None:
    assert load_artifact(llama.folder) == llama
    assert (llama.task, llama.model_file) == ("text-generation-with-past", "model.onnx")
    assert llama.generation is not None
    assert (llama.generation.layers, llama.generation.end_ids, llama.generation.pad_id) == (2, (2,), 0)
    assert {spec.name: spec.shape for spec in llama.inputs} == {
        "input_ids": ("batch", "sequence"),
        "attention_mask": ("batch", "past + sequence"),
        "position_ids": ("batch", "sequence"),
        **{f"past_key_values.{i}.{kind}": ("batch", 3, "past", 4) for i in (0, 1) for kind in ("key", "value")},
    }
    assert {spec.name: spec.shape for spec in llama.outputs} == {
        "logits": ("batch", "sequence", models.VOCABULARY),
        **{f"present.{i}.{kind}": ("batch", 3, "past + sequence", 4) for i in (0, 1) for kind in ("key", "value")},
    }
    graph = onnx.load(llama.model_path)
    onnx.checker.check_model(graph, full_check=True)
    assert {entry.domain: entry.version for entry in graph.opset_import}[""] == 20
    assert graph.ir_version <= 10
    assert {"config.json", "generation_config.json"} <= llama.files.keys()


def test_a_session_refuses_a_mask_or_a_past_that_does_not_fit(llama: Artifact) -> None:
    with open_session(llama) as session:
        steps = CausalSteps(session, np.ones((2, 4), np.int64))
        ids = np.full((2, 4), 7, np.int64)
        steps.advance(ids)
        feeds = {"input_ids": ids, "position_ids": ids, **steps.cache}
        with pytest.raises(InputError, match=r"past \+ sequence is 4 in attention_mask; .* past 4 \+ sequence 4"):
            session.run({**feeds, "attention_mask": ids})
        wrong = {**feeds, "past_key_values.1.key": steps.cache["past_key_values.1.key"][:, :, 1:]}
        with pytest.raises(InputError, match=r"past is 4 in past_key_values.0.key and 3 in past_key_values.1.key"):
            session.run({**wrong, "attention_mask": np.ones((2, 8), np.int64)})
        heads = {**feeds, "past_key_values.0.key": steps.cache["past_key_values.0.key"][:, :2]}
        with pytest.raises(InputError, match=r"must have the shape \(batch, 3, past, 4\); got \(2, 2, 4, 4\)"):
            session.run({**heads, "attention_mask": np.ones((2, 8), np.int64)})


def test_learned_positions_and_int8(llama: Artifact, tmp_path: Path) -> None:
    artifact = export_generator(models.gpt2(), models.texts(), tmp_path / "out", precision="int8")
    parity = artifact.lineage["parity"]
    assert parity["fp32"] < 1e-5 < parity["int8"]
    assert parity["int8_same_choice"] >= 0.9
    operators = {node.op_type for node in onnx.load(artifact.model_path).graph.node}
    assert "MatMulInteger" in operators
    with pytest.raises(InputError, match="generates text; export its model again with export_generator"):
        quantize_onnx(llama, tmp_path / "again", quantization="dynamic")


def test_what_int8_or_the_graph_cost_is_gated(llama: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "convert_part", lambda part, opset: onnx_ir.load(llama.model_path))
    with pytest.raises(GateError, match=r"int8 the likeliest token stays the same after \d.*, less than 110.0%"):
        export_generator(models.llama(), models.texts(), tmp_path / "a", precision="int8", least_agreement=1.1)
    other = models.llama()
    nn.init.normal_(other.lm_head.weight)
    with pytest.raises(GateError, match=r"differ from torch by up to .* of the largest logit, more than 1e-04"):
        export_generator(other, models.texts(), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_weights_stand_beside_the_graph_where_they_are_too_large(
    llama: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generators, "convert_part", lambda part, opset: onnx_ir.load(llama.model_path))
    artifact = export_generator(models.llama(), models.texts(), tmp_path / "out", single_file_bytes=1000)
    assert "model.onnx_data" in artifact.files
    assert artifact.files["model.onnx"].size_bytes < llama.files["model.onnx"].size_bytes
    with open_session(artifact) as beside, open_session(llama) as single:
        np.testing.assert_array_equal(generate(beside, [[5, 6, 7]], 5), generate(single, [[5, 6, 7]], 5))


PARTS = {
    "encoder": "encoder_model.onnx",
    "decoder": "decoder_model.onnx",
    "decoder_with_past": "decoder_with_past_model.onnx",
}


def test_an_encoder_decoder_is_three_graphs_under_optimums_names(t5: Artifact) -> None:
    assert load_artifact(t5.folder) == t5
    assert t5.task == "text2text-generation-with-past"
    assert {name: part.model_file for name, part in t5.parts.items()} == PARTS
    with_past = t5.part("decoder_with_past")
    assert [spec.name for spec in with_past.inputs][:6] == [
        "input_ids",
        "encoder_attention_mask",
        "past_key_values.0.decoder.key",
        "past_key_values.0.decoder.value",
        "past_key_values.0.encoder.key",
        "past_key_values.0.encoder.value",
    ]
    shapes = {spec.name: spec.shape for spec in (*with_past.inputs, *with_past.outputs)}
    assert shapes["past_key_values.0.encoder.key"] == ("batch", 3, "encoder_sequence", 8)
    assert shapes["present.1.decoder.value"] == ("batch", 3, "past + sequence", 8)
    assert "present.1.encoder.value" not in shapes
    assert t5.size_bytes == sum(t5.files[name].size_bytes for name in PARTS.values())
    with pytest.raises(InputError, match="no part 'middle'; its parts are encoder, decoder, decoder_with_past"):
        t5.part("middle")


def test_a_target_cut_anywhere_gives_the_logits_of_one_pass(t5: Artifact) -> None:
    batch, targets = models.texts(), models.texts(length=8, seed=1)["input_ids"]
    with torch.no_grad():
        expected = models.t5()(**batch, decoder_input_ids=targets).logits.numpy()
    arrays = {name: value.numpy() for name, value in batch.items()}
    with open_sequence_sessions(t5) as sessions:
        for cut in range(1, 9):
            steps = SequenceSteps(sessions, arrays)
            pieces = [steps.advance(p) for p in (targets[:, :cut].numpy(), targets[:, cut:].numpy()) if p.shape[1]]
            np.testing.assert_allclose(np.concatenate(pieces, 1), expected, rtol=0, atol=TOLERANCE)


def test_a_greedy_translation_is_that_of_torch(t5: Artifact) -> None:
    batch = models.texts()
    with torch.no_grad():
        expected = models.t5().generate(**batch, max_new_tokens=15, min_new_tokens=15, do_sample=False)[:, 1:].numpy()
    with open_sequence_sessions(t5) as sessions:
        found = generate_sequence(sessions, {name: value.numpy() for name, value in batch.items()}, 15)
    for row, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(row, wanted[: len(row)])
        assert len(row) == 15 or row[-1] == 1


@pytest.mark.parametrize("make", [models.marian, models.bart])
def test_the_family_of_bart_begins_ends_and_leaves_out_what_torch_does(make: Make, tmp_path: Path) -> None:
    """Forced first and last tokens and words that must not come, to the token."""
    model, batch = make(), models.texts()
    batch["input_ids"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"], model.config.pad_token_id)
    artifact = export_generator(model, batch, tmp_path / "out")
    settings = artifact.generation
    assert settings is not None
    begun = len(settings.start_ids)
    with torch.no_grad():
        expected = model.generate(**batch, max_new_tokens=12 + begun - 1, do_sample=False, num_beams=1).numpy()
        if settings.never_ids:  # they would have come, were they not left out
            model.generation_config.bad_words_ids = None
            assert not np.array_equal(model.generate(**batch, max_new_tokens=12)[:, : expected.shape[1]], expected)
    with open_sequence_sessions(artifact) as sessions:
        found = generate_sequence(sessions, {name: value.numpy() for name, value in batch.items()}, 12)
    assert (expected[:, :begun] == settings.start_ids).all()
    for row, wanted in zip(found, expected[:, begun:], strict=True):
        np.testing.assert_array_equal(row, wanted[: len(row)])
        assert row[-1] == settings.last_id == model.generation_config.eos_token_id
        assert (wanted[len(row) :] == settings.pad_id).all()


def test_a_greedy_transcription_is_that_of_torch(whisper: Artifact) -> None:
    assert whisper.task == "automatic-speech-recognition-with-past"
    assert whisper.generation is not None
    assert (whisper.generation.never_ids, whisper.generation.never_first_ids) == ((5, 6), (2,))
    assert whisper.parts["encoder"].inputs[0].shape == ("batch", 8, 40)
    model, batch = models.whisper(), models.features()
    targets = torch.full((2, 1), 3)
    for index in range(12):  # transformers' own generate wants a tokenizer's timestamps; this is its greedy rule
        with torch.no_grad():
            logits = model(**batch, decoder_input_ids=targets).logits[:, -1]
        logits[:, [5, 6, *([2] if index == 0 else [])]] = -float("inf")
        targets = torch.cat([targets, logits.argmax(-1, keepdim=True)], dim=1)
    with open_sequence_sessions(whisper) as sessions:
        found = generate_sequence(sessions, {"input_features": batch["input_features"].numpy()}, 12)
    for row, wanted in zip(found, targets[:, 1:].numpy(), strict=True):
        np.testing.assert_array_equal(row, wanted[: len(row)])
        assert len(row) == 12 or row[-1] == 2


def test_models_without_a_cache_are_refused(make_bert: Make, text_batch: Make, tmp_path: Path) -> None:
    refused = "no cache of keys and values. Export it without a cache, with export_onnx"
    with pytest.raises(InputError, match=f"BertForSequenceClassification.forward takes input_ids, .* {refused}"):
        export_generator(make_bert().float(), text_batch(), tmp_path / "out")
    traced = torch.fx.symbolic_trace(nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"This student is a traced graph: .* Export it without a cache"):
        export_generator(traced, text_batch(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "precision='fp8' is not known; choose one of fp32, fp16, int8, weight-int8, int4"),
        ({"precision": "int4", "target": "tensorrt"}, "tensorrt does not read int4: its operator, MatMulNBits"),
        ({"precision": "int8", "target": "tensorrt"}, "tensorrt reads no int8 with scales found at run time"),
        ({"opset": 15}, "opset=15 is too old: torch writes 17 and newer"),
        ({"target": "npu"}, "target='npu' is not known; choose one of cpu-x86, cpu-x86-vnni"),
    ],
)
def test_options_that_are_not_known_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        export_generator(models.gpt2(), models.texts(), tmp_path / "out", **options)
