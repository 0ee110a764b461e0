"""carry_over(student, teacher): the same student, body and projections, with the head of another task's teacher."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgefold.calibration import Batch
from edgefold.dimensions import DimensionGraph
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.jobs.joined_students import join
from edgefold.structure.stacks import find_stacks
from edgefold.student_building import build_student
from edgefold.students import Student


@dataclass(frozen=True)
class Lineage:
    """A student, and the one that it was made from where its plan shrank an earlier student."""

    student: Student
    earlier: "Lineage | None" = None


@dataclass(frozen=True)
class Carried:
    """A student that went on to another teacher."""

    lineage: Lineage
    share: float
    """Of its parameters, how many it has from before; the others are the new teacher's, through the same maps."""


def carry_over(
    previous: Lineage,
    teacher: nn.Module,
    inputs: Batch,
    batches: Sequence[Batch],
    mode: str,
    graph: DimensionGraph | None = None,
) -> Carried:
    """Go on with a student under another teacher of the same architecture, whose head may differ.

    Every weight, projection and mask that the previous student has under the same name and in the same shape is taken
    from it; what is left (the head of another task) is composed from the new teacher's weights through the same maps.
    The previous student is not modified.

    Args:
        batches: of the new task; they calibrate what no earlier map is known for.
        mode: of training; "projection" and "all" need a previous student of one of these.
        graph: of the teacher, where it has been traced already.

    Raises:
        InputError: the architectures or the modes do not go together.
    """
    student = previous.student
    if mode != "weights" and student.mode == "weights":
        raise InputError(
            f"mode={mode!r} needs projected weights, and the previous student, trained in mode='weights', has none; "
            "go on in mode='weights'."
        )
    source, earlier = teacher, None
    if previous.earlier is not None:
        earlier = carry_over(previous.earlier, teacher, inputs, batches, previous.earlier.student.mode, graph).lineage
        source, graph = plain_of(earlier.student), None
    _check_stacks(student, source)
    plan = student.structure.plan
    carried = build_student(source, plan, inputs, batches, mode, start="pca", graph=graph, previous=student)
    share = _take_over(carried, student)
    if earlier is not None:
        join(carried, earlier.student)
    return Carried(Lineage(carried, earlier), share)


def shrink(previous: Lineage, student: Student) -> Lineage:
    """The lineage of a student that build_student made of `plain_of` the previous one; joined to the same teacher."""
    join(student, previous.student)
    return Lineage(student, previous)


def plain_of(student: Student) -> nn.Module:
    """The student folded for another plan: nothing is cut out, so that every place keeps its name and its size."""
    return fold(student, keep_slow_pairs=True, remove_dead=False)


def _check_stacks(student: Student, source: nn.Module) -> None:
    kept = student.structure.layer_map
    mine = {stack.path: stack.depth for stack in find_stacks(student.module)}
    shortened = {path.rpartition(".")[0] for path in kept}
    theirs = {stack.path: stack.depth for stack in find_stacks(source)}
    common = mine.keys() & theirs.keys()
    wrong = [path for path in common if path not in shortened and mine[path] != theirs[path]]
    if mine and (not common or wrong):
        raise InputError(
            f"The student has layers {mine}, the teacher that it is to go on with has {theirs} ({type(source).__name__}"
            "); give a checkpoint of the same architecture as the teacher before."
        )


@torch.no_grad()
def _take_over(student: Student, previous: Student) -> float:
    """Copy, in place, what agrees in name and shape; the share of parameters."""
    values, own = _named(previous, student.mode), _named(student, student.mode)
    _check_body(student, values, own)
    agreeing = [name for name, tensor in own.items() if name in values and values[name].shape == tensor.shape]
    for name in agreeing:
        own[name].copy_(values[name])
    student.refresh()
    counted = {id(tensor): tensor.numel() for tensor in student.parameters()}
    taken = {id(own[name]) for name in agreeing}
    return sum(size for key, size in counted.items() if key in taken) / sum(counted.values())


def _named(student: Student, mode: str) -> dict[str, Tensor]:
    """All that is trained, and what of buffers lies in checkpoints; composed weights where the mode has none."""
    persistent = student.state_dict().keys()
    buffers = {name: buffer for name, buffer in student.named_buffers() if name in persistent}
    named = dict(student.named_parameters(remove_duplicate=False)) | buffers
    if mode == "weights" and student.mode != "weights":
        named |= {f"module.{name}": weight.detach() for name, weight in student.weights().items()}
    return named


def _check_body(student: Student, values: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Whatever lies in the body of a Hugging Face model has one shape in both."""
    body = getattr(student.module, "base_model_prefix", "")
    wrong = [n for n in own if n.startswith(f"module.{body}.") and n in values and values[n].shape != own[n].shape]
    if body and wrong:
        name, shapes = wrong[0].removeprefix("module."), (tuple(values[wrong[0]].shape), tuple(own[wrong[0]].shape))
        raise InputError(
            f"The student cannot go on: {name} was {shapes[0]} and is {shapes[1]} under the same plan; "
            "give a teacher of the same architecture, and ranks instead of energies."
        )
