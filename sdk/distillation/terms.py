"""The terms of the loss between a student and its teacher, from what both computed on one batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.distillation.attention_maps import attention_loss
from edgefold.distillation.captures import Observation, observe
from edgefold.distillation.contrastive import info_nce, labelled_contrast
from edgefold.distillation.cosine import cosine_loss
from edgefold.distillation.hidden_states import hidden_loss
from edgefold.distillation.learned_maps import LearnedMaps
from edgefold.distillation.logits import classes_last, logits_loss, logits_of
from edgefold.distillation.masking import token_mask
from edgefold.distillation.objectives import Objective
from edgefold.distillation.pairs import Pairs
from edgefold.distillation.places import Pair
from edgefold.distillation.pooling import pool
from edgefold.distillation.relations import relation_loss
from edgefold.errors import InputError
from edgefold.matches import Part
from edgefold.students import Student
from edgefold.teachers.rows import TeacherOutputs


class Distillation:
    """What an objective compares between a student and its teacher, and the loss that follows.

    Args:
        student: as trained, without any wrapper.
        maps: for the pairs whose widths differ and that no built student relates.
    """

    def __init__(self, student: nn.Module, objective: Objective, pairs: Pairs, maps: LearnedMaps | None = None) -> None:
        self._student, self._objective, self._pairs = student, objective, pairs
        self.maps = maps or LearnedMaps(())
        self._values = (*pairs.hidden, *pairs.embeddings, *pairs.contrast)

    @property
    def student_places(self) -> list[str]:
        places = [pair.student for pair in self._values] + [mine.place for mine, _ in self._pairs.relations]
        return list(dict.fromkeys(places))

    @property
    def teacher_places(self) -> list[str]:
        contrasted = self._pairs.contrast if self._contrasts_with_teacher else ()
        pairs = (*self._pairs.hidden, *self._pairs.embeddings, *contrasted)
        return list(dict.fromkeys([p.teacher for p in pairs] + [other.place for _, other in self._pairs.relations]))

    @property
    def student_layers(self) -> list[int]:
        """Whose attention maps are compared."""
        return sorted({pair.student for pair in self._pairs.maps})

    @property
    def teacher_layers(self) -> list[int]:
        return sorted({pair.teacher for pair in self._pairs.maps})

    @property
    def _contrasts_with_teacher(self) -> bool:
        return self._objective.contrast.positives == "teacher"

    def views(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The batch as often as one step needs it, one copy after the other: each meets other dropout."""
        copies = self._objective.views
        if copies == 1:
            return dict(inputs)
        rows = next(len(value) for value in inputs.values() if isinstance(value, Tensor) and value.dim())

        def repeated(value: Any) -> Any:
            has_rows = isinstance(value, Tensor) and value.dim() > 0 and len(value) == rows
            return torch.cat([value] * copies) if has_rows else value

        return {name: repeated(value) for name, value in inputs.items()}

    def run_student(self, model: Callable[..., Any], views: Mapping[str, Any], also: Sequence[str] = ()) -> Observation:
        """One pass of the student (`model`: itself or a wrapper) over all views of a batch.

        Args:
            also: more places whose values are wanted.
        """
        module = self._student.module if isinstance(self._student, Student) else self._student
        return observe(model, module, views, [*self.student_places, *also], self.student_layers)

    def run_teacher(self, teacher: nn.Module, inputs: Mapping[str, Any]) -> TeacherOutputs:
        with torch.no_grad():
            seen = observe(teacher, teacher, inputs, self.teacher_places, self.teacher_layers)
        return TeacherOutputs(logits_of(seen.outputs), dict(seen.hidden), dict(seen.attentions))

    def terms(
        self, seen: Observation, teacher: TeacherOutputs | None, inputs: Mapping[str, Any], labels: Any = None
    ) -> dict[str, Tensor]:
        """Each term by name, weighted.

        Args:
            seen: of the student, by `run_student` on the views of these inputs.
            teacher: None where the objective needs none.
        """
        losses: dict[str, Tensor] = {}
        if teacher is not None:
            first = seen.head(len(teacher.logits)) if self._objective.views > 1 else seen
            losses |= self._from_teacher(first, teacher, inputs)
        if self._objective.contrastive:
            losses["contrastive"] = self._contrast(seen, teacher, inputs, labels)
        return {name: getattr(self._objective, name) * loss for name, loss in losses.items()}

    def _from_teacher(self, seen: Observation, teacher: TeacherOutputs, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        if self._objective.logits:
            logits = logits_of(seen.outputs)[: len(teacher.logits)]
            mask = token_mask(inputs, logits)
            mine, other = classes_last(logits), classes_last(teacher.logits)
            losses["logits"] = logits_loss(mine, other, self._objective.temperature, mask)
        if self._objective.outputs:
            losses["outputs"] = self._outputs(seen, teacher, inputs)
        for name, loss, pairs in (
            ("hidden", hidden_loss, self._pairs.hidden),
            ("cosine", cosine_loss, self._pairs.hidden),
            ("embeddings", hidden_loss, self._pairs.embeddings),
        ):
            if getattr(self._objective, name):
                both = [self._in_one_space(pair, seen.hidden, teacher.hidden) for pair in pairs]
                losses[name] = _mean([loss(mine, other, None, token_mask(inputs, mine)) for mine, other in both])
        if self._pairs.maps:
            losses["attention"] = self._attention(seen, teacher, inputs)
        if self._pairs.relations:
            losses["relations"] = self._relations(seen, teacher, inputs)
        return losses

    def _outputs(self, seen: Observation, teacher: TeacherOutputs, inputs: Mapping[str, Any]) -> Tensor:
        mine, other = logits_of(seen.outputs), teacher.logits
        if mine.shape != other.shape:
            raise InputError(
                f"The student returns {tuple(mine.shape)}, the teacher {tuple(other.shape)}; Objective(outputs > 0) "
                "compares them number by number. Set outputs=0 for these models."
            )
        return hidden_loss(mine, other.to(mine.dtype), None, token_mask(inputs, mine))

    def _attention(self, seen: Observation, teacher: TeacherOutputs, inputs: Mapping[str, Any]) -> Tensor:
        losses = []
        for pair in self._pairs.maps:
            mine, other = seen.attentions[pair.student], teacher.attentions[pair.teacher]
            mask = token_mask(inputs, mine.transpose(1, 2))
            losses.append(attention_loss(mine, other.to(mine.dtype), pair.heads, mask))
        return _mean(losses)

    def _relations(self, seen: Observation, teacher: TeacherOutputs, inputs: Mapping[str, Any]) -> Tensor:
        losses = []
        for mine, other in self._pairs.relations:
            value, target = _columns(seen.hidden, mine), _columns(teacher.hidden, other)
            heads = self._objective.relation_heads
            losses.append(relation_loss(value, target.to(value.dtype), heads, token_mask(inputs, value)))
        return _mean(losses)

    def _contrast(
        self, seen: Observation, teacher: TeacherOutputs | None, inputs: Mapping[str, Any], labels: Any
    ) -> Tensor:
        contrast, (pair,) = self._objective.contrast, self._pairs.contrast
        if contrast.positives == "teacher":
            assert teacher is not None
            mine, other = self._in_one_space(pair, seen.head(len(teacher.logits)).hidden, teacher.hidden)
            a, b = (pool(value, token_mask(inputs, value), contrast.pooling) for value in (mine, other))
            return info_nce(a, b, contrast.temperature)
        value = _channels_last(seen.hidden[pair.student])
        rows = pool(value, token_mask(self.views(inputs), value), contrast.pooling)
        if contrast.positives == "labels":
            if not isinstance(labels, Tensor):
                raise InputError("Contrast(positives='labels') needs labels in every batch; use 'dropout' without.")
            return labelled_contrast(rows, labels, contrast.temperature)
        a, b = rows.chunk(2)
        if _are_one(a, b):
            raise InputError(
                "Contrast(positives='dropout') needs a student with dropout, but both views of a batch are equal; set "
                "its dropout above 0, or use positives='teacher'."
            )
        return info_nce(a, b, contrast.temperature)

    def _in_one_space(
        self, pair: Pair, seen: Mapping[str, Tensor], teacher: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The student's value and the teacher's, through the plan's map or a learned one."""
        mine, other = seen[pair.student], teacher[pair.teacher]
        if pair.dimension is not None:
            assert isinstance(self._student, Student)
            other = other if pair.scale is None else other / pair.scale.to(other)
            other = other if pair.through is None else other @ pair.through.to(other)
            return mine, self._student.mapped(other, pair.dimension)
        mine, other = _channels_last(mine), _channels_last(other)
        if mine.shape[-1] != other.shape[-1]:
            mine = self.maps(mine, other.shape[-1])
        if mine.shape != other.shape:
            raise InputError(
                f"{pair.student!r} of the student is {tuple(mine.shape)}, {pair.teacher!r} of the teacher "
                f"{tuple(other.shape)}: they differ in more than their width. Choose another layer_map, or set "
                "hidden=0, cosine=0 and embeddings=0."
            )
        return mine, other


def maps_between(
    student: nn.Module, teacher: nn.Module, pairs: Pairs, objective: Objective, inputs: Mapping[str, Tensor]
) -> LearnedMaps:
    """Maps for every pair that needs one, their widths read off one pass of either model."""
    probe, training = Distillation(student, objective, pairs), student.training
    with torch.no_grad():
        seen = probe.run_student(student.eval(), probe.views(inputs))
        other = probe.run_teacher(teacher, inputs)
    student.train(training)
    widths = [
        (_channels_last(seen.hidden[pair.student]).shape[-1], _channels_last(other.hidden[pair.teacher]).shape[-1])
        for pair in pairs.unmapped
        if pair.teacher in other.hidden
    ]
    return LearnedMaps((mine, theirs) for mine, theirs in widths if mine != theirs)


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean()


def _columns(values: Mapping[str, Tensor], part: Part) -> Tensor:
    return values[part.place][..., part.start : part.stop]


def _are_one(a: Tensor, b: Tensor) -> bool:
    """Whether they differ by rounding alone: two threads do not add up every row of a batch in one order."""
    rounding: float = torch.finfo(a.dtype).eps ** 0.5
    return float((a - b).detach().abs().max()) <= rounding * float(a.detach().abs().max())


def _channels_last(value: Tensor) -> Tensor:
    """Images (batch, channels, height, width) as (batch, height * width, channels); anything else as it is."""
    return value.flatten(2).transpose(1, 2) if value.dim() == 4 else value
