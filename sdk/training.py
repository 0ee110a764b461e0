"""CompressionTrainer: transformers.Trainer with the loss of an Objective between teacher and student."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from edgefold.distillation import Objective, captured_outputs, hidden_loss, logits_loss, logits_of, token_mask
from edgefold.errors import InputError
from edgefold.penalties import L1, L2, Penalty
from edgefold.students import Match, Student
from edgefold.teacher_cache import EXAMPLE_IDS, NumberedCollator, NumberedDataset, TeacherCache, TeacherOutputs


class CompressionTrainer(Trainer):
    """Trains a student (in place) against labels and a frozen teacher.

    Args:
        student: made by `build_student`; or a plain module, for which hidden states are not matched.
        teacher: the model the student was made from; needed when the objective has a logits or hidden weight.
        objective: the weights of the loss.
        teacher_cache_gib: memory for the teacher's outputs, so that its forward pass is paid for once per example
            and not
            once per epoch; 0 recomputes them. Leave it 0 when the data are augmented anew in every epoch.
        args, train_dataset, data_collator, ...: as for transformers.Trainer. `args.remove_unused_columns` is best
        left False.

    Raises:
        InputError: the objective asks for a teacher or for matches that are not there.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        teacher: nn.Module | None = None,
        objective: Objective | None = None,
        args: TrainingArguments | None = None,
        train_dataset: Any = None,
        teacher_cache_gib: float = 0.0,
        **trainer_arguments: Any,
    ) -> None:
        self.objective: Objective = objective or Objective()
        self.matches = student.matches if isinstance(student, Student) else ()
        self._check(teacher)
        self.cache = TeacherCache(int(teacher_cache_gib * 2**30)) if teacher_cache_gib > 0 else None
        if self.cache is not None and train_dataset is not None:
            train_dataset = NumberedDataset(train_dataset)
        super().__init__(model=student, args=args, train_dataset=train_dataset, **trainer_arguments)
        if self.cache is not None:
            self.data_collator = NumberedCollator(self.data_collator)
        self.model_accepts_loss_kwargs = False  # our loss is a mean: the Trainer divides it under gradient accumulation
        self.label_names = self.args.label_names or ["labels"]
        self.teacher = teacher.to(self.args.device).eval().requires_grad_(False) if teacher is not None else None
        self._terms: dict[str, float] = defaultdict(float)
        self._term_steps = 0

    def _check(self, teacher: nn.Module | None) -> None:
        if self.objective.needs_teacher and teacher is None:
            raise InputError(f"{self.objective} needs a teacher; pass teacher=..., or set logits=0 and hidden=0.")
        if self.objective.hidden > 0 and not self.matches:
            raise InputError(
                "Objective(hidden > 0) needs a student whose plan projects a dimension that its teacher "
                "normalises or writes; "
                "set hidden=0 for this student."
            )

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """As the Trainer's; gradients of composed weights go to the projections once a step, with its last batch."""
        student = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        if isinstance(student, Student):
            student.hold_gradients(not self.accelerator.sync_gradients)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective while training; the task's loss alone in evaluation."""
        ids = inputs.pop(EXAMPLE_IDS, None)
        student = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        paths = [match.module for match in self._matched()] if model.training else []
        inner = student.module if isinstance(student, Student) else student
        with captured_outputs(inner, paths) as hidden:
            outputs = model(**inputs)
        task = _task_loss(outputs, inputs)
        if not model.training:
            return (task, outputs) if return_outputs else task
        terms = {"task": self.objective.task * task} if self.objective.task else {}
        terms |= self._distillation(student, logits_of(outputs), hidden, inputs, ids)
        terms |= self._penalties(student)
        self._record(terms)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        return (loss, outputs) if return_outputs else loss

    def _matched(self) -> tuple[Match, ...]:
        return self.matches if self.objective.hidden > 0 else ()

    def _distillation(
        self,
        student: nn.Module,
        logits: Tensor,
        hidden: Mapping[str, Tensor],
        inputs: Mapping[str, Any],
        ids: Tensor | None,
    ) -> dict[str, Tensor]:
        if self.teacher is None or not self.objective.needs_teacher:
            return {}
        teacher = self._teacher_outputs(inputs, ids)
        terms: dict[str, Tensor] = {}
        if self.objective.logits:
            mask = token_mask(inputs, logits)
            loss = logits_loss(logits, teacher.logits, self.objective.temperature, mask)
            terms["logits"] = self.objective.logits * loss
        if self.objective.hidden and isinstance(student, Student):
            losses = [
                hidden_loss(
                    hidden[match.module],
                    match.wanted(teacher.hidden[match.teacher_module]),
                    student.projection(match.dimension),
                    token_mask(inputs, hidden[match.module]),
                )
                for match in self.matches
            ]
            terms["hidden"] = self.objective.hidden * torch.stack(losses).mean()
        return terms

    def _teacher_outputs(self, inputs: Mapping[str, Any], ids: Tensor | None) -> TeacherOutputs:
        if self.cache is None or ids is None:
            return self._run_teacher(inputs)
        return self.cache.fetch(inputs, ids, lambda: self._run_teacher(inputs))

    def _run_teacher(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        assert self.teacher is not None
        bare = {name: value for name, value in inputs.items() if name not in self.label_names}
        paths = list(dict.fromkeys(match.teacher_module for match in self._matched()))
        with torch.no_grad(), captured_outputs(self.teacher, paths) as hidden:
            outputs = self.teacher(**bare)
        return TeacherOutputs(logits_of(outputs), dict(hidden))

    def _penalties(self, student: nn.Module) -> dict[str, Tensor]:
        """Over the matrices that the folded student will have; biases and norms are left alone."""
        penalties: dict[str, Penalty] = {}
        if self.objective.l1:
            penalties["l1"] = L1(self.objective.l1)
        if self.objective.l2:
            penalties["l2"] = L2(self.objective.l2)
        if not penalties:
            return {}
        weights = student.weights() if isinstance(student, Student) else dict(student.named_parameters())
        matrices = [weight for weight in weights.values() if weight.dim() > 1 and weight.requires_grad]
        return {name: penalty.value(matrices).to(matrices[0].device) for name, penalty in penalties.items()}

    def _record(self, terms: Mapping[str, Tensor]) -> None:
        self._term_steps += 1
        for name, term in terms.items():
            self._terms[name] += float(term.detach())

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the mean of each term of the loss since the last log, as loss_task, loss_logits, ..."""
        if self._term_steps and "loss" in logs:
            logs |= {f"loss_{name}": value / self._term_steps for name, value in self._terms.items()}
            self._terms.clear()
            self._term_steps = 0
        super().log(logs, *args, **kwargs)


def _task_loss(outputs: Any, inputs: Mapping[str, Any]) -> Tensor:
    """The model's own loss where it computes one from labels, else cross-entropy; zero without labels."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    if isinstance(loss, Tensor):
        return loss
    logits, labels = logits_of(outputs), inputs.get("labels")
    if labels is None:
        return logits.new_zeros(())
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())
