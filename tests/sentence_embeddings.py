"""MiniLM-L6 as a sentence embedder for benchmarks: its texts, and how alike two embedders see them."""

import random
import tarfile
from io import BytesIO
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from edgefold.demo_data import INNER_ARCHIVE, REVIEWS, fetch_model
from edgefold.downloads import default_cache, fetch

HELD_OUT = 600


class Embedder(nn.Module):
    """Mean-pooled sentence embeddings; the read-out keeps the teacher's space whatever the student's width."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        size = encoder.config.hidden_size
        self.readout = nn.Linear(size, size)
        self.readout.weight.data, self.readout.bias.data = torch.eye(size), torch.zeros(size)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, seq) -> (batch, hidden)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask[:, :, None].to(hidden.dtype)
        return self.readout((hidden * weights).sum(1) / weights.sum(1))


def texts() -> list[str]:
    """23.7 thousand short texts of four domains, shuffled with seed 0."""
    found = []
    with tarfile.open(fetch(REVIEWS, default_cache())) as outer:
        member = outer.extractfile(INNER_ARCHIVE)
        assert member is not None
        with tarfile.open(fileobj=BytesIO(member.read())) as inner:
            for name in sorted(
                n for n in inner.getnames() if n.endswith("Snippets_GroundTruth.txt") or "tweets_G" in n
            ):
                file = inner.extractfile(name)
                assert file is not None
                lines = file.read().decode("utf-8", "replace").splitlines()
                found += [line.split("\t", 2)[2].strip() for line in lines if line.count("\t") >= 2]
    random.Random(0).shuffle(found)
    return found


def batches(tokenizer: Any, rows: list[str]) -> list[dict[str, Tensor]]:
    """Of 32, texts of like length together, cut at 64 tokens."""
    ordered = sorted(rows, key=lambda text: len(tokenizer.tokenize(text)))
    parts = [ordered[i : i + 32] for i in range(0, len(ordered), 32)]
    encoded = [tokenizer(part, truncation=True, max_length=64, padding=True, return_tensors="pt") for part in parts]
    return [{name: batch[name] for name in ("input_ids", "attention_mask")} for batch in encoded]


def similarities(model: nn.Module, held_out: list[dict[str, Tensor]]) -> Any:
    with torch.no_grad():
        vectors = nn.functional.normalize(torch.cat([model(**batch) for batch in held_out]), dim=1)
    i, j = torch.triu_indices(len(vectors), len(vectors), 1)
    return (vectors @ vectors.T)[i, j].numpy()


def load_embedder() -> tuple[Any, Embedder]:
    """Tokenizer and teacher."""
    encoder = AutoModel.from_pretrained(fetch_model(), local_files_only=True, add_pooling_layer=False)
    return AutoTokenizer.from_pretrained(fetch_model(), local_files_only=True), Embedder(encoder).eval()
