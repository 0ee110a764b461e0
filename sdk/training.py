"""CompressionTrainer: transformers.Trainer with the loss of an Objective between teacher and student."""

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, convert_to_fp32
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from edgefold.distillation.learned_maps import attached
from edgefold.distillation.logits import IGNORED, classes_last, logits_of
from edgefold.distillation.objectives import Objective
from edgefold.distillation.pairs import find_pairs
from edgefold.distillation.terms import Distillation, maps_between
from edgefold.distillation.tokenizer_agreement import check_tokenizers
from edgefold.errors import InputError
from edgefold.fingerprints import fingerprint_data, fingerprint_model
from edgefold.gates.schedule import GateSchedule, give_own_rates
from edgefold.masks.schedule import MaskSchedule
from edgefold.penalty_terms import PenaltyTerms
from edgefold.reachability import Unreached
from edgefold.running_terms import RunningTerms
from edgefold.students import Student
from edgefold.teachers.cache import EXAMPLE_IDS, NumberedCollator, NumberedDataset, TeacherCache
from edgefold.teachers.files import INDEX, TeacherFiles, record_teacher
from edgefold.teachers.rows import TeacherOutputs

logger = logging.getLogger(__name__)
WHOLE_GRADIENTS = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
"""Where every process has the gradient of every parameter."""


class CompressionTrainer(Trainer):
    """Trains a student (in place) against labels and a frozen teacher.

    Args:
        student: made by `build_student`; or any module: its layers are then held against the teacher's by the
            objective's layer map, and through learned maps where widths differ. Those are trained and saved in
            checkpoints with the student, and gone from it when `train` returns.
        teacher: the model the student was made from, or another; needed when the objective compares with one.
        objective: the weights of the loss.
        teacher_cache_gib: memory for the teacher's outputs, so that its forward pass is paid for once per example
            and not once per epoch; 0 recomputes them. Leave it 0 when the data, or what the collator makes of them, are
            drawn anew in every epoch.
        teacher_cache_folder: keep all of the teacher's outputs there instead, on disk. They are written before the
            first step where the folder is not there yet, and serve every later run with this teacher, these data and
            these places; others refuse them.
        teacher_tokenizer: to be compared with `processing_class`, the student's.
        inputs: example tensors of forward, from which a student that build_student did not make learns its widths;
            the first two rows of the training data where they are left out.
        args, train_dataset, data_collator, ...: as for transformers.Trainer; `args.remove_unused_columns` removes what
            the student's own forward does not name.

    Raises:
        InputError: the objective asks for a teacher or for matches that are not there, or the tokenizers differ.
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
        teacher_cache_folder: str | Path | None = None,
        teacher_tokenizer: Any = None,
        inputs: Mapping[str, Tensor] | None = None,
        **trainer_arguments: Any,
    ) -> None:
        self.objective: Objective = objective or Objective()
        self._check(teacher, teacher_tokenizer, trainer_arguments.get("processing_class"))
        if teacher_cache_folder is not None and not hasattr(train_dataset, "__len__"):
            raise InputError(
                f"teacher_cache_folder={str(teacher_cache_folder)!r} needs training data that can be numbered; got "
                f"{type(train_dataset).__name__} without a length. Leave it out, so that the teacher runs in each step."
            )
        self.penalties = PenaltyTerms(self.objective.all_penalties, student)
        cached = self.objective.needs_teacher and (teacher_cache_gib > 0 or teacher_cache_folder is not None)
        in_memory = cached and teacher_cache_folder is None
        self.cache: TeacherCache | TeacherFiles | None = (
            TeacherCache(int(teacher_cache_gib * 2**30)) if in_memory else None
        )
        self._cache_folder = Path(teacher_cache_folder) if cached and teacher_cache_folder is not None else None
        if cached and train_dataset is not None:
            train_dataset = NumberedDataset(train_dataset)
        super().__init__(model=student, args=args, train_dataset=train_dataset, **trainer_arguments)
        if cached:
            self.data_collator = NumberedCollator(self.data_collator)
        self.model_accepts_loss_kwargs = False  # our loss is a mean: the Trainer divides it under gradient accumulation
        self.label_names = self.args.label_names or ["labels"]
        self.teacher = teacher.to(self.args.device).eval().requires_grad_(False) if teacher is not None else None
        self.distillation = self._compare(student, inputs)
        if isinstance(student, Student) and len(student.masks):
            self.add_callback(MaskSchedule(student))
        self.gates = student.gates if isinstance(student, Student) else None
        if self.gates is not None:
            self.add_callback(GateSchedule(self.gates))
        self._is_attached = False
        self._terms = RunningTerms()
        self.args.logging_nan_inf_filter = (
            False  # it waits for the card in every step, for what ends the training anyway
        )

    def _check(self, teacher: nn.Module | None, teacher_tokenizer: Any, tokenizer: Any) -> None:
        if self.objective.needs_teacher and teacher is None:
            weights = ", ".join(f"{name}={weight}" for name, weight in self.objective.from_teacher().items())
            raise InputError(f"Objective({weights}) needs a teacher; pass teacher=..., or set these weights to 0.")
        if teacher_tokenizer is not None and tokenizer is not None:
            check_tokenizers(tokenizer, teacher_tokenizer)

    def _compare(self, student: nn.Module, inputs: Mapping[str, Tensor] | None) -> Distillation:
        """What the objective compares; widths that no plan relates are read off one pass of either model."""
        pairs = find_pairs(student, self.teacher, self.objective, lambda: self._example(inputs))
        if self.teacher is None or not pairs.unmapped:
            return Distillation(student, self.objective, pairs)
        maps = maps_between(student, self.teacher, pairs, self.objective, self._example(inputs))
        return Distillation(student, self.objective, pairs, maps.to(self.args.device))

    def _example(self, inputs: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """A small batch without labels: the inputs given, else the first two training rows."""
        example = inputs or _first_rows(self.train_dataset, self.data_collator)
        return {name: value.to(self.args.device) for name, value in self._without_labels(example).items()}

    def _set_signature_columns_if_needed(self) -> None:
        """What the student's own module reads; the Trainer would look at the forward around it, which names nothing."""
        if self._signature_columns is None:
            module = self.model.module if isinstance(self.model, Student) else self.model
            names = inspect.signature(module.forward).parameters  # type: ignore[union-attr]
            self._signature_columns: Any = [
                *names,
                *dict.fromkeys(("label", "label_ids", *self.label_names)),
                EXAMPLE_IDS,
            ]

    def _without_labels(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in inputs.items() if name not in (*self.label_names, EXAMPLE_IDS)}

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's, with the learned maps as part of the student until it returns; it then computes in full.

        accelerate leaves the autocast of mixed precision on the model's forward, so that a student trained in bfloat16
        would go on computing in it. What no step has reached is told in a log.
        """
        assert self.model is not None
        self._unreached = Unreached(self.model)
        if self._cache_folder is not None and self.cache is None:
            self.cache = self._open_cache(self._cache_folder)
        with attached(self.distillation.maps, self.model):
            result = super().train(*args, **kwargs)
        self._terms.settle()
        if self._unreached.names:
            logger.warning("%s", self._unreached)
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        return result

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As the Trainer's; each step ends with the proximal steps of the penalties, and gates have their own rates."""
        is_new = self.optimizer is None or not self._is_attached
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if is_new and self.gates is not None:
            give_own_rates(optimizer, self.gates, self.lr_scheduler is not None)
        if is_new and self.penalties.proximal is not None:
            self.penalties.proximal.attach(optimizer, lambda: (self.state.global_step, self.state.max_steps))
        self._is_attached = True
        return optimizer

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """As the Trainer's; gradients of composed weights go to the projections once a step, with its last batch."""
        student = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        if isinstance(student, Student):
            student.hold_gradients(not self.accelerator.sync_gradients)
        loss = super().training_step(model, inputs, num_items_in_batch)
        if isinstance(student, Student):
            student.masks.mask_gradients(student.module)
        if self.accelerator.distributed_type in WHOLE_GRADIENTS and self.accelerator.sync_gradients:
            self._unreached.look()
        return loss

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective while training; the task's loss alone in evaluation."""
        ids = inputs.pop(EXAMPLE_IDS, None)
        if not model.training:
            outputs = model(**inputs)
            task = _task_loss(outputs, inputs)
            return (task, outputs) if return_outputs else task
        student = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        views = self.distillation.views(inputs)
        if not self.objective.task:
            views = self._without_labels(views)  # of which models compute a loss that none asked for
        seen = self.distillation.run_student(model, views, also=self.penalties.paths)
        terms = {"task": self.objective.task * _task_loss(seen.outputs, views)} if self.objective.task else {}
        teacher = self._teacher_outputs(inputs, ids) if self.objective.needs_teacher else None
        terms |= self.distillation.terms(seen, teacher, inputs, inputs.get(self.label_names[0]))
        terms |= self.penalties.values(student, seen.hidden, views)
        terms |= {"gates": self.gates.lagrangian()} if self.gates is not None else {}
        self._terms.add(self.state.global_step + 1, terms)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        return (loss, seen.outputs) if return_outputs else loss

    def _open_cache(self, folder: Path) -> TeacherFiles:
        """The teacher's outputs on disk; the first process writes them where they are not there."""
        assert self.teacher is not None
        dataset: Any = self.train_dataset
        size = self.args.per_device_eval_batch_size
        left_out = (*self.label_names, EXAMPLE_IDS)
        key = {
            "the teacher": fingerprint_model(self.teacher),
            "the data": fingerprint_data((dataset[index] for index in range(len(dataset))), left_out),
            "the precision": str(self.accelerator.mixed_precision),
            "what is compared": repr((self.distillation.teacher_places, self.distillation.teacher_layers)),
        }
        with self.accelerator.main_process_first():
            if not (folder / INDEX).is_file():
                starts = range(0, len(dataset), size)
                ranges = (range(start, min(start + size, len(dataset))) for start in starts)
                batches = (self._prepare_inputs(self.data_collator([dataset[i] for i in those])) for those in ranges)
                record_teacher(folder, key, batches, self._run_teacher, len(dataset))
        return TeacherFiles(folder, key)

    def _teacher_outputs(self, inputs: Mapping[str, Any], ids: Tensor | None) -> TeacherOutputs:
        if self.cache is None or ids is None:
            return self._run_teacher(inputs)
        return self.cache.fetch(inputs, ids, lambda: self._run_teacher(inputs))

    def _run_teacher(self, inputs: Mapping[str, Any]) -> TeacherOutputs:
        """In the precision of the training, which accelerate gives to the model that it was handed and to no other; the
        results are in float32, as it makes them of that model's."""
        assert self.teacher is not None
        with self.accelerator.autocast():
            found = self.distillation.run_teacher(self.teacher, self._without_labels(inputs))
        halved = self.accelerator.mixed_precision != "no"
        return TeacherOutputs(*convert_to_fp32((found.logits, found.hidden, found.attentions))) if halved else found

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """As the Trainer's, once it is known that the steps before it were finite."""
        self._terms.settle()
        super()._save_checkpoint(*args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the mean of each term of the loss since the last log, as loss_task, loss_logits, ..., and gates_share,
        the share of the parameters that their gates leave, expected or settled."""
        if "loss" in logs and (means := self._terms.take_means()):
            logs |= {f"loss_{name}": value for name, value in means.items()}
            if self.gates is not None:
                settled = self.gates.is_settled
                logs["gates_share"] = (
                    self.gates.kept_share() if settled else float(self.gates.expected_share().detach())
                )
        super().log(logs, *args, **kwargs)


def _task_loss(outputs: Any, inputs: Mapping[str, Any]) -> Tensor:
    """The model's own loss where it computes one from labels; else cross-entropy with whole numbers, and the mean
    squared error of others; zero without labels.

    A batch in which every label is to be ignored has zero for its loss, too, where a mean over nothing were NaN.
    """
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
    labels = inputs.get("labels")
    if not isinstance(loss, Tensor):
        logits = logits_of(outputs)
        if labels is None:
            return logits.new_zeros(())
        loss = _squared_error(logits, labels) if labels.is_floating_point() else _cross_entropy(logits, labels)
    if isinstance(labels, Tensor) and not loss.isfinite() and bool((labels == IGNORED).all()):
        return 0 * logits_of(outputs).float().sum()
    return loss


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    logits = classes_last(logits)
    if logits.shape[:-1].numel() != labels.numel():
        raise InputError(
            f"The model returns logits for {tuple(logits.shape[:-1])}, in {logits.shape[-1]} classes; the labels are "
            f"{tuple(labels.shape)}. Labels are the index of a class for each, values have a decimal point."
        )
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def _squared_error(values: Tensor, labels: Tensor) -> Tensor:
    if values.numel() != labels.numel() or len(values) != len(labels):
        raise InputError(
            f"The model returns {tuple(values.shape)}, the labels, which are no whole numbers, are "
            f"{tuple(labels.shape)}; of as many values the mean squared error is taken."
        )
    return nn.functional.mse_loss(values, labels.reshape(values.shape).to(values.dtype))


def _first_rows(dataset: Any, collate: Any) -> Mapping[str, Tensor]:
    """The first two examples as a batch, without a draw from the generators that training will use."""
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise InputError(
            "The widths of student and teacher are read off one pass of each, but the training data cannot be indexed; "
            "give CompressionTrainer(..., inputs=...), example tensors of forward."
        )
    with torch.random.fork_rng(devices=[]):
        batch = collate([dataset[index] for index in range(min(2, len(dataset)))])
    return {name: value for name, value in batch.items() if isinstance(value, Tensor)}
