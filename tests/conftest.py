"""Tiny models and inputs that the tests share."""

import copy
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# What torch.export remembers of operators pays from about four layers on; two are traced a quarter faster without.
os.environ.setdefault("TORCH_FAKE_TENSOR_DISPATCH_CACHE", "0")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from remote_fixtures import device, large, loopback_device  # noqa: F401


@pytest.fixture(scope="session")
def make_bert() -> Callable[..., Any]:
    """A factory of small random BERT classifiers in float64 and evaluation mode."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    def make(**fields: Any) -> Any:
        torch.manual_seed(0)
        sizes = {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 40,
            "vocab_size": 101,
            "max_position_embeddings": 64,
        }
        model = BertForSequenceClassification(BertConfig(**{**sizes, **fields})).double().eval()
        with torch.no_grad():  # a fresh model is nearly linear: make every law work on large values
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model

    return make


@pytest.fixture(scope="session")
def make_decoder() -> Callable[..., Any]:
    """A factory of small random GPT-2 language models in float64 and evaluation mode."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    def make(**fields: Any) -> Any:
        torch.manual_seed(0)
        sizes = {"vocab_size": 101, "n_embd": 24, "n_layer": 4, "n_head": 3, "n_positions": 64}
        config = GPT2Config(**{**sizes, "bos_token_id": 1, "eos_token_id": 1, "use_cache": False, **fields})
        model = GPT2LMHeadModel(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model

    return make


@pytest.fixture(scope="session")
def make_residual_stack() -> Callable[..., Any]:
    """A factory of plain modules with a list of residual layers, in float64; x: (batch, 5) -> (batch, 3)."""
    import torch
    from torch import Tensor, nn

    class Layer(nn.Module):
        def __init__(self, index: int) -> None:
            super().__init__()
            self.index, self.sign = index, -1.0 if index % 2 else 1.0
            self.norm, self.inner, self.outer = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.sign * self.outer(torch.tanh(self.inner(self.norm(x))))

    class ResidualStack(nn.Module):
        def __init__(self, depth: int, counts: bool) -> None:
            super().__init__()
            self.counts, self.depth = counts, depth
            self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 3)
            self.layers = nn.ModuleList(Layer(index) for index in range(depth))

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for layer in [self.layers[i] for i in range(self.depth)] if self.counts else self.layers:
                x = layer(x)
            return self.last(x)

    def make(depth: int = 4, counts: bool = False) -> Any:
        torch.manual_seed(0)
        return ResidualStack(depth, counts).double().eval()

    return make


@pytest.fixture(scope="session")
def text_batch() -> Callable[..., Any]:
    """A factory of ragged token batches: ids and a mask with some padding."""
    import torch

    def make(rows: int = 4, length: int = 9, seed: int = 0) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        mask = torch.ones(rows, length, dtype=torch.long)
        for row in range(rows):
            mask[row, length - row % 4 :] = 0 if row % 4 else 1
        return {"input_ids": torch.randint(0, 100, (rows, length), generator=generator), "attention_mask": mask}

    return make


@pytest.fixture
def device_state() -> Any:
    """The state of a machine that is not there."""
    from made_reports import STATE

    return STATE


@pytest.fixture
def make_report() -> Callable[..., Any]:
    from made_reports import make_report

    return make_report


@pytest.fixture(scope="session")
def bert_graph(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> Any:
    """Of a model of its own, which is as those of `make_bert` are; traced once."""
    from edgefold.dimensions import trace

    return trace(make_bert(), text_batch())


@pytest.fixture(scope="session")
def make_bert_student(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> Callable[..., Any]:
    """A factory of students of a BERT at two thirds of its sizes; each is built once, and copies are handed out."""
    import torch

    from edgefold.plans import Plan, Project, Select
    from edgefold.student_building import build_student

    built: dict[tuple[str, torch.dtype, float], Any] = {}
    plan = Plan([Project("hidden", 16), Select("ffn", 24), Select("heads", 2)])

    def make(mode: str = "weights", dtype: torch.dtype = torch.float64, dropout: float = 0.0) -> Any:
        key = mode, dtype, dropout
        if key not in built:
            teacher = make_bert(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout).to(dtype)
            built[key] = build_student(teacher, plan, text_batch(), [text_batch(8)], mode)
        return copy.deepcopy(built[key])

    return make


@pytest.fixture(scope="session")
def make_artifact() -> Callable[..., Any]:
    """A factory of artifacts made without torch: logits = ids * mask @ weight, (batch, sequence) -> (batch, 3)."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    from edgefold.artifacts import TensorSpec, write_artifact

    def make(folder: Path, external: bool = False, sequence: int = 4) -> Any:
        names = ("input_ids", "attention_mask")
        weight = np.random.default_rng(0).normal(size=(sequence, 3)).astype(np.float32)
        nodes = [
            helper.make_node("Mul", list(names), ["kept"]),
            helper.make_node("Cast", ["kept"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["values", "weight"], ["logits"]),
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", sequence]) for name in names],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(weight, "weight")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        folder.mkdir(parents=True)
        aside: dict[str, Any] = (
            {"save_as_external_data": True, "location": "model.onnx_data", "size_threshold": 0} if external else {}
        )
        save(model, folder / "model.onnx", **aside)
        return write_artifact(
            folder,
            format="onnx",
            precision="fp32",
            target=None,
            model_file="model.onnx",
            inputs=[TensorSpec(name=name, dtype="int64", shape=("batch", sequence)) for name in names],
            outputs=[TensorSpec(name="logits", dtype="float32", shape=("batch", 3))],
            lineage={"teacher": "none", "plan": [1, 2.5, None]},
        )

    return make


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny teacher, its data and a recipe."""
    import csv

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
        "plan: [project: {dimension: hidden, size: 12}, select: {dimension: ffn, size: 16}, "
        "select: {dimension: heads, size: 2}]\n"
        "training: {epochs: 1, batch_size: 16, threads: 1}\n"
        "calibration: {samples: 32}\n"
    )
    return folder


@pytest.fixture(scope="session")
def make_result() -> Callable[..., Any]:
    """A factory of a model's results: a speed-up with an interval of one percent to either side."""
    from edgefold.ratios import Ratio
    from edgefold.reporting.summaries import ModelResult

    def make(
        name: str, accuracy: float, speed: float, megabytes: float, role: Any = "rival", precision: str = "int8"
    ) -> ModelResult:
        ratio = Ratio(value=speed, low=speed * 0.99, high=speed * 1.01, blocks=30, basis="cpu")
        return ModelResult(
            name=name,
            role=role,
            precision=precision,
            parameters=1000,
            encoder_parameters=500,
            size_bytes=int(megabytes * 1e6),
            accuracy=accuracy,
            p50_s=0.04 / speed,
            cpu_p50_s=0.04 / speed,
            ratio=ratio,
        )

    return make


@pytest.fixture(scope="session")
def make_summary() -> Callable[..., Any]:
    """A factory of the demo's summary around some results."""
    from edgefold.device_states import DeviceState
    from edgefold.reporting.summaries import DemoSummary, GateResult, LayerShape, find_dominated

    def make(results: list[Any], **fields: Any) -> DemoSummary:
        state = DeviceState(
            processor="a processor",
            instruction_sets=("avx2",),
            cores=2,
            governor=None,
            load_average=(0.1, 0.2, 0.3),
            cpu_limit=None,
            system="Linux",
            versions={"python": "3.11"},
            taken_at="2026-01-01T00:00:00+00:00",
        )
        known: dict[str, Any] = {
            "teacher_accuracy": 0.85,
            "student_accuracy": 0.845,
            "int8_accuracy": 0.84,
            "share_of_teacher": 0.845 / 0.85,
            "speedup_fp32": 6.0,
            "speedup_int8": 9.0,
            "teacher_int8_speedup": 1.7,
            "teacher_parameters": 22_000_000,
            "student_parameters": 5_000_000,
            "teacher_encoder_parameters": 10_600_000,
            "student_encoder_parameters": 1_200_000,
            "seed": 0,
            "width": "third",
            "quick": False,
            "test_rows": 2000,
            "threads_measured": 1,
            "shape": "batch 1, 128 tokens",
            "seconds": {"teacher": 200.0},
            "results": tuple(results),
            "dominated": find_dominated([result for result in results if result.chosen]),
            "curves": (),
            "dimensions": ({"name": "hidden", "kind": "linear", "teacher_size": 384, "student_size": 128},),
            "layers": (LayerShape(parameter="a.<b>.weight", teacher=(4, 4), student=(2, 2)),),
            "gates": (GateResult(name="fold", value=0.0, limit=1e-5), GateResult(name="int8", value=0.1, limit=0.015)),
            "device_before": state,
            "device_after": state,
            "commands": ("edgefold demo",),
        }
        return DemoSummary(**{**known, **fields})

    return make
