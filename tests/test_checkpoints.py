"""load(save(student)) = student, ordinary checkpoints open without edgefold, and damage is found and named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from generating_models import llama, marian, texts
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
)

from edgefold.checkpoints import load_student, save_student
from edgefold.errors import InputError
from edgefold.exporters import export_generator, export_onnx
from edgefold.folding import fold
from edgefold.plans import LowRank, Plan, Project, Select
from edgefold.runtimes import generate, open_session
from edgefold.student_building import build_student

UNIFORM = Plan([Project("hidden", 16), Select("ffn", 24), Select("heads", 2)])
OTHER_PLANS = {
    "non-uniform": Plan([Project("hidden", 16), Select("ffn.0", 8)]),
    "low rank": Plan([Project("hidden", 16), Select("heads", 2), LowRank("word_embeddings", 4), LowRank("*.dense", 4)]),
}


@pytest.fixture
def make_student(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> Callable[[Plan], Any]:
    def make(plan: Plan) -> Any:
        return fold(build_student(make_bert().float(), plan, text_batch(), [text_batch(8)]))

    return make


def test_a_uniform_student_is_an_ordinary_checkpoint(
    tmp_path: Path, make_student: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    plain = make_student(UNIFORM)
    save_student(plain, tmp_path / "student", lineage={"plan": UNIFORM.to_dicts()})
    for opened in (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "student"),
        load_student(tmp_path / "student"),
    ):
        assert torch.equal(opened.eval()(**text_batch()).logits, plain(**text_batch()).logits)
    manifest = json.loads((tmp_path / "student" / "edgefold.json").read_text())
    assert manifest["lineage"]["plan"][0] == {"project": {"dimension": "hidden", "size": 16}}


@pytest.mark.parametrize("plan", OTHER_PLANS.values(), ids=OTHER_PLANS.keys())
def test_any_other_student_opens_with_load_student(
    plan: Plan, tmp_path: Path, make_student: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    plain = make_student(plan)
    opened = load_student(save_student(plain, tmp_path / "student"))
    assert torch.equal(opened(**text_batch()).logits, plain(**text_batch()).logits)
    assert not (tmp_path / "student" / "model.safetensors").exists()


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.h = 12
        self.inner, self.out = nn.Linear(4, 12), nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.inner(x).view(-1, self.h))


def test_a_plain_module_needs_its_architecture(tmp_path: Path) -> None:
    teacher, x = Plain().eval(), {"x": torch.randn(5, 4)}
    plain = fold(build_student(teacher, Plan([Project("hidden", 6)]), x, [x]))
    folder = save_student(plain, tmp_path / "student")
    assert torch.equal(load_student(folder, Plain())(**x), plain(**x))
    with pytest.raises(
        InputError, match=r"architecture=Plain\(\.\.\.\).*or save it again with save_student\(.*inputs="
    ):
        load_student(folder)
    with pytest.raises(InputError, match="holds a Plain; the architecture given is a Linear"):
        load_student(folder, nn.Linear(2, 2))


@pytest.fixture
def plain_folder(tmp_path: Path) -> tuple[nn.Module, Path]:
    x = {"x": torch.randn(5, 4, dtype=torch.float64)}
    plain = fold(build_student(Plain().double().eval(), Plan([Project("hidden", 6)]), x, [x]))
    return plain, save_student(plain, tmp_path / "student", inputs=x)


def test_a_plain_module_saved_with_inputs_opens_from_the_folder_alone(plain_folder: tuple[nn.Module, Path]) -> None:
    plain, folder = plain_folder
    names = {path.name for path in folder.iterdir()}
    assert names == {"edgefold.json", "graph.json", "student.safetensors"}  # the weights are there once
    opened = load_student(folder)
    for rows in (1, 5, 8):
        x = torch.randn(rows, 4, dtype=torch.float64)
        torch.testing.assert_close(opened(x=x), plain(x=x), rtol=1e-12, atol=1e-12)
    assert not opened.training
    assert type(load_student(folder, Plain().double())).__name__ == "Plain"


def test_a_student_opened_from_its_graph_is_saved_and_exported_like_any_other(
    plain_folder: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    plain, folder = plain_folder
    again = load_student(save_student(load_student(folder), tmp_path / "again"))
    x = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(again(x=x), plain(x=x), rtol=1e-12, atol=1e-12)
    artifact = export_onnx(again.float(), {"x": x.float()}, tmp_path / "onnx")
    assert artifact.lineage["parity"]["fp32"] < 1e-4


@pytest.mark.parametrize("name", ["graph.json", "student.safetensors"])
def test_an_altered_graph_is_found(name: str, plain_folder: tuple[nn.Module, Path]) -> None:
    path = plain_folder[1] / name
    path.write_bytes(path.read_bytes()[:-3] + b"  }")
    with pytest.raises(InputError, match=rf"{name} is corrupt: its SHA-256 is"):
        load_student(plain_folder[1])


def test_a_language_model_brings_its_generation_config_and_tokenizer(
    tmp_path: Path, job: Path, text_batch: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 101, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 32, "n_inner": 40}
    teacher = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=1, use_cache=False)).eval()
    teacher.generation_config.max_new_tokens = 7
    plan = Plan([Project("hidden", 16), Select("ffn", 24), Select("heads", 2)])
    plain = fold(build_student(teacher, plan, text_batch(), [text_batch(8)]))
    tokenizer = AutoTokenizer.from_pretrained(job / "teacher")
    folder = save_student(plain, tmp_path / "student", tokenizer=tokenizer)
    assert json.loads((folder / "generation_config.json").read_text())["max_new_tokens"] == 7
    assert AutoTokenizer.from_pretrained(folder)("wordc worda")["input_ids"] == tokenizer("wordc worda")["input_ids"]
    prompt = torch.tensor([[5, 9, 2]])
    expected = plain.generate(prompt, do_sample=False)
    assert expected.shape[1] > 3
    for opened in (AutoModelForCausalLM.from_pretrained(folder), load_student(folder)):
        assert torch.equal(opened.generate(prompt, do_sample=False), expected)


def test_one_flipped_byte_is_found(tmp_path: Path, make_student: Callable[..., Any]) -> None:
    folder = save_student(make_student(UNIFORM), tmp_path / "student")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors is corrupt: its SHA-256 is"):
        load_student(folder)
    weights.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is missing"):
        load_student(folder)


def test_folders_that_are_no_students(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no student folder"):
        load_student(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"has no edgefold\.json"):
        load_student(tmp_path)
    (tmp_path / "edgefold.json").write_text("{")
    with pytest.raises(InputError, match="is not valid JSON"):
        load_student(tmp_path)
    (tmp_path / "edgefold.json").write_text('{"schema_version": 99}')
    with pytest.raises(InputError, match="has schema version 99, this edgefold reads 1"):
        load_student(tmp_path)


def test_what_cannot_be_saved_leaves_nothing(
    tmp_path: Path, make_bert: Callable[..., Any], text_batch: Callable[..., Any], make_student: Callable[..., Any]
) -> None:
    student = build_student(make_bert(), UNIFORM, text_batch(), [text_batch()])
    with pytest.raises(InputError, match=r"call edgefold\.fold\(student\) first"):
        save_student(student, tmp_path / "student")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        save_student(make_student(UNIFORM), tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_projected_table_that_its_class_would_not_save_is_saved(tmp_path: Path) -> None:
    """Marian computes its positions anew when it is opened, and the narrow ones are no such table."""
    torch.manual_seed(0)
    model, ids = marian(), torch.randint(7, 59, (4, 9))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids.flip(1)}
    narrow = fold(build_student(model, Plan([Project("hidden", 16), Select("heads", 2)]), batch, [batch]))
    assert narrow.config.d_model == 16
    save_student(narrow, tmp_path / "student")
    with torch.no_grad():
        opened = load_student(tmp_path / "student")
        torch.testing.assert_close(opened(**batch).logits, narrow(**batch).logits)


def test_a_width_that_its_class_would_not_save_is_saved(tmp_path: Path) -> None:
    """Transformers takes no Llama as wide as no multiple of its heads, though these have a width of their own."""
    batch = texts(left=True)
    narrow = fold(build_student(llama(), Plan([Project("hidden", 20)]), batch, [batch]))
    opened = load_student(save_student(narrow, tmp_path / "student"))
    with torch.no_grad():
        torch.testing.assert_close(opened(**batch).logits, narrow(**batch).logits)
    artifact = export_generator(opened, batch, tmp_path / "onnx")
    with torch.no_grad():
        written = narrow.generate(**batch, max_new_tokens=8, do_sample=False, eos_token_id=None)
    with open_session(artifact) as session:
        rows = [row[mask == 1] for row, mask in zip(*(value.numpy() for value in batch.values()), strict=True)]
        found = generate(session, rows, 8, end_ids=())
    assert [row.tolist() for row in found] == written[:, batch["input_ids"].shape[1] :].tolist()
