"""fold(student): evaluate every projection once, in float64, and leave plain modules that compute the same function."""

import torch
from torch import nn

from edgefold.errors import InputError
from edgefold.students import Student


def fold(student: Student) -> nn.Module:
    """The student as plain modules: nothing of edgefold is left in them, and nothing is composed at run time.

    W~ = P_b^T W P_a is evaluated on the CPU in float64 and cast once to the student's dtype. The student is not
    modified.

    Raises:
        InputError: `student` is not a student, or its weights are not finite.
    """
    if not isinstance(student, Student):
        raise InputError(
            f"fold takes a student made by build_student; got {type(student).__name__}"
            + (", which is plain already." if isinstance(student, nn.Module) else ".")
        )
    plain, composed = student.skeleton(), student.weights()
    with torch.no_grad():
        folded = student.composed(torch.float64)
    for slot in student.slots:
        slot.restore(plain, folded[slot.name].to(composed[slot.name]))
    for name, parameter in plain.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise InputError(
                f"The student's {name} is not finite; training diverged. Lower the learning rate and train again."
            )
        parameter.requires_grad_(True)
    return plain.eval()
