"""Models that read what no tokenizer or processor is asked for: optimum makes their inputs up."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from optimum.exporters.tasks import TasksManager
from torch import Tensor, nn
from torch.export import Dim
from transformers import BertConfig, BertModel
from typer.testing import CliRunner, Result

from edgefold.artifacts import TensorSpec, load_artifact
from edgefold.cli import samples
from edgefold.cli.application import app
from edgefold.cli.bench_job import Inputs
from edgefold.cli.inspect import Task
from edgefold.cli.models import TASKS, open_model
from edgefold.cli.optimum_inputs import find_image_size, make_inputs, name_task
from edgefold.errors import InputError
from edgefold.exporters import export_onnx
from edgefold.exporters.preparation import prepared

pytestmark = pytest.mark.filterwarnings("ignore")

SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
TEXT = {**SIZES, "vocab_size": 50, "max_position_embeddings": 32}
IMAGE = {**SIZES, "image_size": 16, "patch_size": 8}


def spectrograms() -> Any:
    from transformers import ASTConfig, ASTForAudioClassification

    strides = {"patch_size": 4, "frequency_stride": 4, "time_stride": 4}
    return ASTForAudioClassification(ASTConfig(**SIZES, **strides, max_length=24, num_mel_bins=16))


def waves() -> Any:
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    convolutions = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 4), "num_feat_extract_layers": 2}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8}
    return Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**SIZES, **convolutions, **positions, vocab_size=12))


def images() -> Any:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**IMAGE))


def both() -> Any:
    from transformers import CLIPConfig, CLIPModel

    ends = {"bos_token_id": 1, "eos_token_id": 2}
    return CLIPModel(CLIPConfig(text_config={**TEXT, **ends}, vision_config=IMAGE, projection_dim=8))


def choices() -> Any:
    from transformers import BertConfig, BertForMultipleChoice

    return BertForMultipleChoice(BertConfig(**TEXT))


def detector() -> Any:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4, out_features=["stage4"])
    sizes = {f"{part}_{what}": n for part in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 16))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 4}
    return DetrForObjectDetection(DetrConfig(backbone_config=backbone, d_model=16, **sizes, **heads))


def save(model: Any, folder: Path, size: dict[str, Any] | None = None) -> Path:
    """As a checkpoint, with the processor of a model that does not read texts alone."""
    model.save_pretrained(folder)
    if size is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(size))
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments: object) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any] | None, str, dict[str, tuple[int | str, ...]]]] = {
    "spectrograms": (spectrograms, {}, "audio-classification", {"input_values": ("batch", 24, 16)}),
    "waves": (waves, {}, "audio-classification", {"input_values": ("batch", "samples")}),
    "images": (images, {}, "feature-extraction", {"pixel_values": ("batch", 3, 16, 16)}),
    "both": (
        both,
        {},
        "feature-extraction",
        {
            "input_ids": ("batch", "sequence"),
            "attention_mask": ("batch", "sequence"),
            "pixel_values": ("batch", 3, 16, 16),
        },
    ),
    "choices": (
        choices,
        None,
        "multiple-choice",
        dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ("batch", "choices", "sequence")),
    ),
    "detector": (
        detector,
        {"do_center_crop": False, "size": {"height": 32, "width": 64}},
        "object-detection",
        {"pixel_values": ("batch", 3, 32, 64)},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_inputs_are_those_that_forward_names_and_the_task_is_called_as_optimum_does(name: str, tmp_path: Path) -> None:
    make, processor, task, shapes = CASES[name]
    model = make().eval()
    folder = save(model, tmp_path / "model", processor)
    assert samples.find_kind(folder) == "made-up"
    inputs, axes = make_inputs(model, folder)
    assert {n: tuple(axes[n].get(i, size) for i, size in enumerate(v.shape)) for n, v in inputs.items()} == shapes
    assert all(value.shape[0] == 2 for value in inputs.values())  # a batch of one is taken for a constant
    again, _ = make_inputs(model, folder)
    assert all(torch.equal(again[name], value) for name, value in inputs.items())
    assert name_task(model) == task


@pytest.mark.parametrize("name", CASES)
def test_any_model_is_inspected(name: str, tmp_path: Path) -> None:
    make, processor, *_ = CASES[name]
    model = make().eval()
    folder = save(model, tmp_path / "model", processor)
    read = {each: list(value.shape[1:]) for each, value in make_inputs(model, folder)[0].items()}
    (folder / "model.safetensors").unlink()  # a configuration is enough
    document = answer("inspect", folder)
    assert document["inputs"] == read
    assert document["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert any(dimension["kind"] != "fixed" for dimension in document["dimensions"])


def test_the_tasks_of_inspect_are_those_of_models() -> None:
    assert get_args(Task) == ("auto", *TASKS)


def check_job(name: str, precision: str, folder: Path) -> None:
    """export, then verify against the checkpoint, whose head is opened too, then bench."""
    torch.manual_seed(0)
    make, processor, task, shapes = CASES[name]
    model = save(make(), folder / "model", processor)
    exported = answer("export", model, "--out", folder / "out", "--precision", precision)
    assert exported["precision"] == precision
    artifact = load_artifact(folder / "out")
    assert artifact.task == task
    assert {spec.name: spec.shape for spec in artifact.inputs} == shapes
    loose = ("--agreement", 0) if precision == "int8" else ()  # random weights: a small step changes what is likeliest
    verified = answer("verify", folder / "out", "--against", model, *loose)
    assert (verified["passed"], verified["inputs"]) == (True, "3 made-up batches")
    assert set(verified["outputs"]) == {spec.name for spec in artifact.outputs}
    measured = answer("bench", folder / "out", "--seconds", 0.02, "--sequence", 8)
    assert measured["reports"][0]["p50_s"] > 0
    refused = invoke("verify", folder / "out", "--against", model, "--data", folder / "data.txt")
    assert refused.exit_code == 2
    assert "the inputs of this model are made up. Leave it out." in " ".join(refused.stderr.split())


@pytest.mark.parametrize(("name", "precision"), [("images", "fp16"), ("choices", "int8")])
def test_from_a_checkpoint_to_measured_times(name: str, precision: str, tmp_path: Path) -> None:
    check_job(name, precision, tmp_path)


@pytest.mark.slow
def test_from_a_checkpoint_of_several_inputs_to_measured_times(tmp_path: Path) -> None:
    check_job("both", "fp32", tmp_path)


def test_a_measurement_tells_the_sizes_that_nobody_asked_for(make_artifact: Callable[..., Any], tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "artifact")
    shapes: list[tuple[int | str, ...]] = [("batch", "choices", "sequence"), ("batch", "samples")]
    specs = tuple(TensorSpec(name=str(i), dtype="int64", shape=shape) for i, shape in enumerate(shapes))
    title = Inputs((1,), 8).title({"out": artifact.model_copy(update={"inputs": specs})})
    assert title == "Batch 1, 4 choices, 16000 samples, 8 tokens"


def test_a_text_is_no_longer_than_the_model_has_positions_unless_it_is_asked_for(tmp_path: Path) -> None:
    ids = torch.ones(2, 8, dtype=torch.long)
    artifacts = {"short": export_onnx(BertModel(BertConfig(**TEXT)).eval(), {"input_ids": ids}, tmp_path / "short")}
    assert Inputs((1,)).tokens(artifacts) == 32
    assert Inputs((1,), 8).tokens(artifacts) == 8
    (tmp_path / "short" / "config.json").unlink()
    assert Inputs((1,)).tokens(artifacts) == 128


def test_a_wave_of_any_length_is_traced(tmp_path: Path) -> None:
    model = waves().eval()
    inputs, axes = make_inputs(model, tmp_path)
    assert axes == {"input_values": {0: "batch", 1: "samples"}}
    dims: Any = {"input_values": {0: Dim("batch"), 1: Dim("samples", min=65)}}  # fewer leave the convolutions nothing
    program = torch.export.export(model, (), inputs, dynamic_shapes=dims).module()
    other = {"input_values": torch.randn(1, 9_000, generator=torch.Generator().manual_seed(0))}
    torch.testing.assert_close(program(**other)["logits"], model(**other)["logits"])


def test_without_optimum_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(choices(), tmp_path / "model")
    monkeypatch.setattr(samples, "find_spec", lambda name: None if name == "optimum.exporters" else find_spec(name))
    other = invoke("inspect", save(waves(), tmp_path / "waves", {}))
    assert other.exit_code == 2
    assert "pip install 'edgefold[optimum]'" in " ".join(other.stderr.split())
    result = invoke("export", folder, "--out", tmp_path / "out")
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert "no inputs for a BertForMultipleChoice of its own; pip install 'edgefold[optimum]', which makes them" in said
    assert "edgefold.exporters.export_onnx(model, inputs, out)" in said
    assert not (tmp_path / "out").exists()


def test_samples_for_inputs_that_are_made_up_are_refused(tmp_path: Path) -> None:
    folder = save(choices(), tmp_path / "model")
    given = ("export", folder, "--out", tmp_path / "out", "--precision", "int8")
    for more in (("--calibration", tmp_path / "data.txt"), ("--quantization", "static")):
        result = invoke(*given, *more)
        assert result.exit_code == 2
        assert "a BertForMultipleChoice are made up: there are no samples to calibrate with" in " ".join(
            result.stderr.split()
        )


def test_a_class_that_transformers_has_not_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["NoSuchForMultipleChoice"]}')
    with pytest.raises(InputError, match=r"is a NoSuchForMultipleChoice, which transformers [0-9.]+ has not"):
        open_model(tmp_path)


def test_a_backbone_gets_its_own_attention_back() -> None:
    model = detector()
    before = (model.config._attn_implementation, model.config.backbone_config._attn_implementation)
    with prepared(model):
        assert model.config._attn_implementation == "eager"
    assert (model.config._attn_implementation, model.config.backbone_config._attn_implementation) == before


class Reader(nn.Module):
    """Reads what its class says; takes nothing."""

    main_input_name = "input_ids"
    config = None

    def forward(self, input_ids: Tensor, **given: Any) -> Tensor:
        raise ValueError("wants more")


class Listener(Reader):
    def forward(self, input_ids: Tensor, is_longer: Tensor) -> Tensor:  # type: ignore[override]
        return input_ids


def test_an_input_that_optimum_does_not_make_up_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Listener reads is_longer, which optimum's generators of input_ids, "):
        make_inputs(Listener(), tmp_path)


def test_what_forward_raises_on_all_that_was_made_up_is_told(tmp_path: Path) -> None:
    reader = Reader()
    with pytest.raises(InputError, match="not take the input_ids that optimum makes up: its configuration lacks"):
        make_inputs(reader, tmp_path)
    reader.config = choices().config
    with pytest.raises(InputError, match="Reader does not take the input_ids that optimum makes up: wants more"):
        make_inputs(reader, tmp_path)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"size": {"height": 8, "width": 9}}, (8, 9)),
        ({"size": {"shortest_edge": 8}, "do_center_crop": True, "crop_size": {"height": 6, "width": 7}}, (6, 7)),
        ({"image_processor": {"size": {"height": 8, "width": 9}}}, (8, 9)),
        ({"size": {"shortest_edge": 8, "longest_edge": 20}}, None),
        ({"sampling_rate": 16_000}, None),
        (None, None),
    ],
)
def test_an_image_is_of_the_size_that_its_processor_makes(fields: Any, size: Any, tmp_path: Path) -> None:
    if fields is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    assert find_image_size(tmp_path) == size


@pytest.mark.parametrize("task", TASKS)
def test_our_names_of_tasks_are_those_of_optimum(task: str) -> None:
    assert task in TasksManager.get_all_tasks()
    assert TasksManager.map_from_synonym(task) == task
