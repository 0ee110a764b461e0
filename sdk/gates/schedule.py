"""Gates while the Trainer trains: drawn anew for every step, settled in time, and with learning rates of their own."""

from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from edgefold.errors import InputError
from edgefold.gates.student_gates import HardConcreteGates

KEY = "gates"
"""In a parameter group of the optimizer: that it is one of the gates', and its learning rate."""


class GateSchedule(TrainerCallback):
    """Advances the gates with the steps of training, and keeps their learning rates out of the schedule of the rest."""

    def __init__(self, gates: HardConcreteGates) -> None:
        self.gates = gates

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.gates.advance(state.global_step, state.max_steps)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Constant rates until the gates settle, then none."""
        for group in kwargs["optimizer"].param_groups:
            if KEY in group:
                group["lr"] = 0.0 if self.gates.is_settled else group[KEY]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """After the optimizer; before the gates are saved or judged."""
        self.gates.advance(state.global_step, state.max_steps)


def give_own_rates(optimizer: Optimizer, gates: HardConcreteGates, has_schedule: bool = False) -> None:
    """Move gates and multipliers into groups of their own, without weight decay, unless they have such; in place.

    Raises:
        InputError: they have none, and the optimizer has a learning rate schedule, which counts its groups.
    """
    if any(KEY in group for group in optimizer.param_groups):
        return
    if has_schedule:
        raise InputError(
            "The optimizer that was given has no parameter groups for the gates, and a schedule already. Call "
            "edgefold.gates.schedule.give_own_rates(optimizer, student.gates) before you make the schedule."
        )
    for parameter, rate in (
        (gates.log_alpha, gates.settings.learning_rate),
        (gates.multipliers, gates.settings.multiplier_rate),
    ):
        _take_out(optimizer, parameter)
        optimizer.add_param_group({"params": [parameter], "lr": rate, "weight_decay": 0.0, KEY: rate})


def _take_out(optimizer: Optimizer, parameter: nn.Parameter) -> None:
    for group in optimizer.param_groups:
        group["params"] = [other for other in group["params"] if other is not parameter]
