"""Task: all that the one job of compression must know of the kind of problem at hand."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from edgefold.tasks.opening import open_tokenizer

Row = dict[str, Any]
Rows = Dataset[Row]
Collate = Callable[[list[Any]], dict[str, Tensor]]


@dataclass(frozen=True)
class Splits:
    """The checked examples of a task, as yet neither tokenized nor resized: a sequence each, or files to read from."""

    train: Any
    validation: Any
    test: Any


@dataclass(frozen=True)
class Metric:
    """A measure of quality."""

    name: str
    greater_is_better: bool = True

    def share_of_teacher(self, student: float, teacher: float) -> float | None:
        """student / teacher, or teacher / student of what is better when smaller; None where that is no number."""
        above, below = (student, teacher) if self.greater_is_better else (teacher, student)
        return above / below if below and isfinite(above) and isfinite(below) else None


@dataclass(frozen=True)
class Task:
    """A frozen record of functions; `TASKS` holds one for each task.

    `data` below is the recipe's section of the task's form, `processor` what turns examples into tensors: a tokenizer,
    an image processor, or None where the examples are tensors already.
    """

    metrics: tuple[Metric, ...]
    """What `evaluate` returns; the first is the one that counts. Others may join it where the data have a use for
    them."""
    open_teacher: Callable[[Path], nn.Module]
    """open_teacher(folder): a trained model in evaluation mode and float32."""
    start_teacher: Callable[[Path, Any], nn.Module]
    """start_teacher(folder, data): a pretrained model with a new head for these data, to be fine-tuned."""
    read: Callable[[Any, nn.Module], Splits]
    """read(data, teacher): the examples, every row checked; labels numbered as the teacher numbers them."""
    encode: Callable[[Any, Any, Any], Rows]
    """encode(examples, processor, data): rows for `collator`, with labels."""
    collator: Callable[[Any, Any, nn.Module], Collate]
    """collator(processor, data, teacher): rows -> keyword tensors of forward, with labels."""
    evaluate: Callable[[nn.Module, Any, Collate], dict[str, float]]
    """evaluate(model, what encode made, collate): every metric by name."""
    open_processor: Callable[[Path], Any] = open_tokenizer
    """open_processor(folder): the processor that lies beside a teacher."""
    texts: Callable[[Any], Iterable[str]] | None = None
    """texts(examples): all that is tokenized, for a vocabulary of the tokens in use; None where there is none."""
    label_names: tuple[str, ...] = ("labels",)
    """The keyword tensors of forward that are no inputs."""
    augment: Callable[[Any, Any, nn.Module, Any], Any] | None = None
    """augment(training examples, processor, teacher, data): those to train with, as the data ask; None where no data
    can."""
    is_cacheable: bool = True
    """Whether a teacher's outputs for a row are worth keeping: they are small, and the row is the same input in every
    epoch."""
