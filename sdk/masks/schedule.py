"""Masks while the Trainer trains: movement is summed before each step, masks grow and are enforced after it."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from edgefold.students import Student


class MaskSchedule(TrainerCallback):
    """Raises each mask's sparsity along its schedule, and leaves no masked weight other than zero after any step."""

    def __init__(self, student: Student) -> None:
        self.student = student

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._advance(state)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.student.masks.accumulate_movement(self.student.module)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """After the optimizer, and whatever else changed the weights in this step; before they are saved or judged."""
        self._advance(state)

    def _advance(self, state: TrainerState) -> None:
        self.student.masks.advance(self.student.module, state.global_step / max(1, state.max_steps))
