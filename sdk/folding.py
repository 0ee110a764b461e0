"""fold(student): evaluate every projection once, in float64, and leave plain modules that compute the same function."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgefold.dead_coordinates import remove_dead_coordinates
from edgefold.errors import InputError
from edgefold.hardware_sizes import MULTIPLE
from edgefold.lost_ranks import factorize_lost_ranks
from edgefold.masks.steps import NM
from edgefold.students import Student
from edgefold.thin_products import merge_slow_pairs

logger = logging.getLogger(__name__)


def fold(
    student: Student, *, keep_slow_pairs: bool = False, remove_dead: bool = True, multiple_of: int = MULTIPLE
) -> nn.Module:
    """The student as plain modules: nothing of edgefold is left in them, and nothing is composed at run time.

    W~ = P_b^T W P_a is evaluated on the CPU in float64 and cast once to the student's dtype. The student is not
    modified.

    Args:
        keep_slow_pairs: whether a factor pair stays one even where the dense product is faster, see `thin_products`.
        remove_dead: whether neurons, channels and heads that penalties, masks or gates have closed are cut out, see
            `dead_coordinates`, and matrices that lost their rank become factor pairs where that is faster, see
            `lost_ranks`. Not under a plan with N:M masks, whose pattern counts inputs.
        multiple_of: what sizes are kept a multiple of then.

    Raises:
        InputError: `student` is not a student or sharded, its weights are not finite, or its masks not yet complete, or
            its gates not yet settled.
    """
    if not isinstance(student, Student):
        raise InputError(
            f"fold takes a student made by build_student; got {type(student).__name__}"
            + (", which is plain already." if isinstance(student, nn.Module) else ".")
        )
    _check_whole(student)
    if student.gates is not None:
        student.gates.check()
    plain = evaluate(student)
    if not keep_slow_pairs:
        masked = {name.rpartition(".")[0].rpartition(".")[0] for name in student.masks.by_parameter}
        pairs = [pair.module for pair in student.structure.factor_pairs if pair.module not in masked]
        for path in merge_slow_pairs(plain, pairs):
            logger.info("%s became dense: at its rank two thin products are slower.", path)
    for name, parameter in plain.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise InputError(
                f"The student's {name} is not finite; training diverged. Lower the learning rate and train again."
            )
    student.masks.check(student.module)
    plain.eval()
    has_pattern = any(isinstance(step, NM) for step in student.structure.plan.steps)  # cutting inputs would shift it
    if remove_dead and student.inputs is not None and not has_pattern:
        plain = _without_dead(plain, student.inputs, keep_slow_pairs, multiple_of)
    return plain.requires_grad_(True)


def evaluate(student: Student) -> nn.Module:
    """Every composed weight of a student put in its place, as things are: plain modules, on the student's device."""
    plain, composed = student.skeleton(), student.weights()
    with torch.no_grad():
        folded = student.composed(torch.float64)
    for slot in student.slots:
        slot.restore(plain, folded[slot.name].to(composed[slot.name]))
    return plain


def _without_dead(plain: nn.Module, inputs: Mapping[str, Tensor], keep_slow_pairs: bool, multiple_of: int) -> nn.Module:
    """On the CPU, where example inputs are kept, and back."""
    device = next(plain.parameters()).device
    smaller = remove_dead_coordinates(plain.cpu(), inputs, multiple_of)
    if not keep_slow_pairs:
        smaller = factorize_lost_ranks(smaller, inputs, multiple_of)
    return smaller.to(device)


def _check_whole(student: Student) -> None:
    """Refuse parameters of which this process holds a part: a DTensor, as FSDP2 leaves them."""
    sharded = next((name for name, parameter in student.named_parameters() if hasattr(parameter, "full_tensor")), None)
    if sharded is not None:
        raise InputError(
            f"The student's {sharded} is sharded over processes (FSDP). Gather its state with "
            "torch.distributed.checkpoint.state_dict.get_model_state_dict(student, "
            "options=StateDictOptions(full_state_dict=True)), load that into a student that build_student made of the "
            "same plan, and fold that one."
        )
