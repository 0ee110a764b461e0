"""The `objective:` section of a recipe: what the student learns, and how much each term counts."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgefold.recipes.sections import Count, Name, Section, Weight

LayerIndex = Annotated[int, Field(strict=True, ge=0)]


class ContrastSettings(Section):
    """Which vectors a contrastive term draws together."""

    positives: Literal["teacher", "dropout", "labels"] = "teacher"
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    pooling: Literal["mean", "cls", "last"] = "mean"
    at: Name | None = None


class ObjectiveSettings(Section):
    """Weights of the terms of the loss."""

    task: Weight = 0.3
    logits: Weight = 0.7
    """Weight of temperature^2 * KL(teacher || student)."""
    hidden: Weight = 1.0
    """Weight of matching hidden states through the projection."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    l1: Weight = 0.0
    l2: Weight = 0.0
    attention: Weight = 0.0
    """Of matching attention maps."""
    relations: Weight = 0.0
    """Of matching relations among queries, keys and values of the last layers."""
    embeddings: Weight = 0.0
    """Of matching what enters the first layer."""
    cosine: Weight = 0.0
    """Of matching the directions of hidden states."""
    outputs: Weight = 0.0
    """Of matching the numbers that the models return, for tasks without classes."""
    contrastive: Weight = 0.0
    contrast: ContrastSettings = ContrastSettings()
    """Which form `contrastive` takes."""
    layer_map: Literal["auto", "uniform", "last"] | tuple[tuple[LayerIndex, LayerIndex], ...] = "auto"
    """Student layers -> teacher layers; or pairs of indices."""
    relation_heads: Count | None = None

    @model_validator(mode="after")
    def _something_to_learn(self) -> "ObjectiveSettings":
        terms = (self.task, self.logits, self.hidden, self.attention, self.relations, self.embeddings, self.cosine)
        if sum(terms) + self.outputs + self.contrastive == 0:
            raise ValueError("task, logits and hidden are all 0, so there is nothing to learn from; set one above 0")
        return self
