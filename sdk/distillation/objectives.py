"""Objective: what a student learns from, and how much each term of the loss weighs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgefold.distillation.layer_maps import LAYER_MAPS
from edgefold.distillation.pooling import POOLINGS
from edgefold.errors import InputError
from edgefold.penalties import L1, L2, Penalty, check_penalties

POSITIVES = ("teacher", "dropout", "labels")


@dataclass(frozen=True)
class Contrast:
    """Which vectors a contrastive term draws together; the rest of the batch, of all processes, are its negatives."""

    positives: str = "teacher"
    """"teacher": what the teacher makes of the same example (after Tian et al., 2020). "dropout": a second pass of the
    same example under other dropout (SimCSE; Gao et al., 2021). "labels": examples of the same label (Khosla et al.,
    2020)."""
    temperature: float = 0.05
    pooling: str = "mean"
    """Of the tokens: "mean" over the mask, "cls" or "last"."""
    at: str | None = None
    """Path of the student's module whose output is pooled; None for the last hidden state."""

    def __post_init__(self) -> None:
        if self.positives not in POSITIVES:
            raise InputError(f"Contrast(positives={self.positives!r}) is not known; choose one of {_list(POSITIVES)}.")
        if self.pooling not in POOLINGS:
            raise InputError(f"Contrast(pooling={self.pooling!r}) is not known; choose one of {_list(POOLINGS)}.")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"Contrast(temperature={self.temperature}) must be above 0; 0.05 is a common choice.")


@dataclass(frozen=True)
class Objective:
    """task * L_task + logits * tau^2 KL(teacher || student) + the other weights, each times its loss of that name.

    Every loss between hidden values is a share of the teacher's own energy, or a divergence, so that weights of order 1
    are a place to begin.
    """

    task: float = 0.3
    logits: float = 0.7
    hidden: float = 1.0
    temperature: float = 2.0
    """tau of the logits."""
    l1: float = 0.0
    l2: float = 0.0
    attention: float = 0.0
    """Attention maps (Jiao et al., 2020)."""
    relations: float = 0.0
    """Relations among queries, keys and values of the last pair of layers (Wang et al., 2020; 2021)."""
    embeddings: float = 0.0
    """What enters the first layer (Jiao et al., 2020)."""
    cosine: float = 0.0
    """Directions of hidden states (Sanh et al., 2019)."""
    outputs: float = 0.0
    """What the models return, as numbers: of regressions, which have no classes (Ba and Caruana, 2014)."""
    contrastive: float = 0.0
    contrast: Contrast = Contrast()
    """Which form `contrastive` takes."""
    layer_map: str | Sequence[tuple[int, int]] = "auto"
    """Student layers -> teacher layers: "uniform", "last", or pairs of indices. "auto" is the layer that each was made
    from, where build_student knows it, and uniform elsewhere."""
    relation_modules: Sequence[tuple[str, str]] = ()
    """(student's, teacher's) paths of modules whose outputs `relations` compares, instead of what tracing finds."""
    relation_heads: int | None = None
    """Into how many slices queries, keys and values are split; None takes the most, up to 12, that fit."""
    penalties: tuple[Penalty, ...] = ()
    """Each is a further term, or a proximal step after the optimizer's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "penalties", check_penalties(self.penalties))
        if not isinstance(self.layer_map, str):
            object.__setattr__(self, "layer_map", tuple(_pair(pair) for pair in self.layer_map))
        elif self.layer_map not in LAYER_MAPS:
            raise InputError(
                f"Objective(layer_map={self.layer_map!r}) is not known; choose one of {_list(LAYER_MAPS)}, or give "
                "pairs of (student layer, teacher layer)."
            )
        for name in (*TERMS, "temperature", "l1", "l2"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise InputError(f"Objective({name}={value!r}) must be a finite number of at least 0.")
        if self.temperature == 0:
            raise InputError("Objective(temperature=0) must be above 0; 2.0 is a common choice.")
        if self.relation_heads is not None and self.relation_heads < 1:
            raise InputError(f"Objective(relation_heads={self.relation_heads}) must be at least 1.")
        if not any(getattr(self, name) for name in TERMS):
            raise InputError(f"Objective has nothing to learn from: give one of {_list(TERMS)} a weight above 0.")

    @property
    def all_penalties(self) -> tuple[Penalty, ...]:
        """l1 and l2 as terms of the loss, and the others."""
        l1 = (L1(self.l1, proximal=False),) if self.l1 else ()
        l2 = (L2(self.l2, proximal=False),) if self.l2 else ()
        return (*l1, *l2, *self.penalties)

    @property
    def needs_teacher(self) -> bool:
        return bool(self.from_teacher())

    def from_teacher(self) -> dict[str, float]:
        """The weights above 0 of the terms that compare with a teacher."""
        names = (*FROM_TEACHER, *(("contrastive",) if self.contrast.positives == "teacher" else ()))
        return {name: getattr(self, name) for name in names if getattr(self, name) > 0}

    @property
    def views(self) -> int:
        """How many passes of each example, under different dropout, one step needs."""
        return 2 if self.contrastive > 0 and self.contrast.positives == "dropout" else 1


FROM_TEACHER = ("logits", "hidden", "attention", "relations", "embeddings", "cosine", "outputs")
TERMS = ("task", *FROM_TEACHER, "contrastive")


def _pair(pair: Sequence[int]) -> tuple[int, int]:
    if len(pair) != 2 or not all(isinstance(index, int) and index >= 0 for index in pair):
        raise InputError(f"Objective(layer_map=...) holds {pair!r}; a pair is (student layer, teacher layer).")
    return pair[0], pair[1]


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
