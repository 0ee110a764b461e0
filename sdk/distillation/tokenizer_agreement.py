"""Whether student and teacher number the same tokens alike; else their logits cannot be compared."""

from typing import Any

from edgefold.errors import InputError


def check_tokenizers(student: Any, teacher: Any) -> None:
    """Compare what two tokenizers number; anything with `get_vocab` will do.

    Raises:
        InputError: they differ in size, or a token has two numbers.
    """
    mine, other = student.get_vocab(), teacher.get_vocab()
    if mine == other:
        return
    unlike = sorted(token for token in mine.keys() | other.keys() if mine.get(token) != other.get(token))
    example = unlike[0]
    raise InputError(
        f"The student's tokenizer has {len(mine)} tokens, the teacher's {len(other)}, and {len(unlike)} differ (first "
        f"{example!r}: number {mine.get(example)} and {other.get(example)}), so their logits and token ids mean "
        "different things; train the student with the teacher's tokenizer."
    )
