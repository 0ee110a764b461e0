"""Training a sentence embedder against its teacher for a number of processor seconds."""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from sentence_embedding import pad
from torch import Tensor, nn

from edgefold.distillation import captured_outputs, token_mask
from edgefold.students import Match, Student
from edgefold.teachers.cache import TeacherCache, TeacherOutputs


@dataclass(frozen=True)
class Recipe:
    """hidden * mean over layers of L(h_s, h_t P) + embedding * L(e_s, e_t) + similarity * L(S_s, S_t).

    L is the share of the teacher's variance that is missed; S holds the cosines of all pairs of a batch.
    """

    learning_rate: float
    hidden: float = 1.0
    embedding: float = 1.0
    similarity: float = 1.0
    batch: int = 32
    warm_up: float = 0.06
    """Share of the seconds; a cosine to zero follows."""


class TeacherMemory:
    """What the teacher says of each text, computed once for all students; its seconds are kept apart."""

    def __init__(self, teacher: nn.Module, tokens: Sequence[Sequence[int]]) -> None:
        self.seconds = 0.0
        self.tokens = tokens
        self._teacher = teacher
        self._layers = [
            name for name, module in teacher.named_modules() if isinstance(module, nn.LayerNorm) and _is_output(name)
        ]
        self._cache = TeacherCache(4 * 2**30)

    def fetch(self, batch: Mapping[str, Tensor], texts: Sequence[int]) -> TeacherOutputs:
        return self._cache.fetch(batch, torch.tensor(texts), lambda: self._run(batch))

    def _run(self, batch: Mapping[str, Tensor]) -> TeacherOutputs:
        begun = time.process_time()
        with torch.no_grad(), captured_outputs(self._teacher, self._layers) as hidden:
            embeddings = self._teacher(**batch)
        self.seconds += time.process_time() - begun
        return TeacherOutputs(embeddings, dict(hidden))


def train(student: Student, memory: TeacherMemory, seconds: float, recipe: Recipe, seed: int = 0) -> int:
    """Train in place; the clock is the processor's and stands while the teacher runs. Returns the steps taken.

    The seed is of the order of the texts. Dropout is off; the word embeddings keep their start, for few of them are met
    often enough; products are in bfloat16.
    """
    matches = _matched(student)
    trained = _prepare(student)
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    order = _batches(memory.tokens, recipe.batch, random.Random(seed))
    elapsed = _clock(memory)
    steps = 0
    while (share := elapsed() / seconds) < 1:
        texts = next(order)
        batch = pad([memory.tokens[i] for i in texts])
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(share, recipe.warm_up)
        with (
            captured_outputs(student.module, [match.module for match in matches]) as hidden,
            torch.autocast("cpu", torch.bfloat16),
        ):
            embeddings = student(**batch)
        assert isinstance(embeddings, Tensor)
        _loss(student, matches, hidden, embeddings.float(), memory.fetch(batch, texts), batch, recipe).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    student.eval().module.encoder.set_attn_implementation("sdpa")
    return steps


def missed(found: Tensor, wanted: Tensor) -> Tensor:
    """E|found - wanted|^2 / E|wanted - E[wanted]|^2, over the first axis."""
    variance = (wanted - wanted.mean(0)).square().sum(-1).mean()
    return (found - wanted).square().sum(-1).mean() / variance


def _loss(
    student: Student,
    matches: Sequence[Match],
    hidden: Mapping[str, Tensor],
    embeddings: Tensor,
    teacher: TeacherOutputs,
    batch: Mapping[str, Tensor],
    recipe: Recipe,
) -> Tensor:
    losses = []
    for match in matches:
        found, wanted = hidden[match.module].float(), teacher.hidden[match.teacher_module]
        mask, projection = token_mask(batch, found), student.projection(match.dimension)
        assert mask is not None
        rows = wanted[mask.bool()]
        losses.append(missed(found[mask.bool()], rows if projection is None else rows @ projection))
    pairs = ~torch.eye(len(embeddings), dtype=torch.bool)
    cosines = [(unit @ unit.T)[pairs, None] for unit in map(_unit, (embeddings, teacher.logits))]
    return (
        recipe.hidden * torch.stack(losses).mean()
        + recipe.embedding * missed(embeddings, teacher.logits)
        + recipe.similarity * missed(*cosines)
    )


def _unit(vectors: Tensor) -> Tensor:
    return nn.functional.normalize(vectors, dim=1)


def _matched(student: Student) -> list[Match]:
    return [match for match in student.matches if _is_output(match.module)]


def _is_output(norm: str) -> bool:
    """Of a layer, or of the embeddings; not inside a layer."""
    return "attention" not in norm


def _prepare(student: Student) -> list[nn.Parameter]:
    """Ready for training; the parameters that are trained."""
    student.train().projections.requires_grad_(False)
    encoder = student.module.encoder
    encoder.embeddings.word_embeddings.requires_grad_(False)
    encoder.set_attn_implementation("eager")  # in bfloat16 on a CPU twice as fast as the fused one
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return [parameter for parameter in student.parameters() if parameter.requires_grad]


def _clock(memory: TeacherMemory) -> Callable[[], float]:
    begun, before = time.process_time(), memory.seconds
    return lambda: time.process_time() - begun - (memory.seconds - before)


def _schedule(share: float, warm_up: float) -> float:
    if share < warm_up:
        return share / warm_up
    return 0.5 * (1 + math.cos(math.pi * (share - warm_up) / (1 - warm_up)))


def _batches(tokens: Sequence[Sequence[int]], size: int, source: random.Random) -> Iterator[list[int]]:
    """Numbers of texts of like length, from 40 batches' worth at a time, for ever."""
    while True:
        texts = source.sample(range(len(tokens)), len(tokens))
        for start in range(0, len(texts), 40 * size):
            chunk = sorted(texts[start : start + 40 * size], key=lambda i: len(tokens[i]))
            found = [chunk[i : i + size] for i in range(0, len(chunk) - size + 1, size)]
            yield from source.sample(found, len(found))
