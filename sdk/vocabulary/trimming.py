"""trim_vocabulary(teacher, tokenizer, keep): a copy of the pair that knows only the tokens in use."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.vocabulary.rows import find_table, keep_rows, special_ids
from edgefold.vocabulary.tokenizers import close_pieces, pieces_of, read_state, trim_tokenizer

TEXTS_AT_ONCE = 1000


def trim_vocabulary(
    teacher: nn.Module, tokenizer: Any, keep: Iterable[int], inputs: Mapping[str, Tensor] | None = None
) -> tuple[nn.Module, Any]:
    """Copies of a model and its fast tokenizer with the tokens of these ids, and those they cannot do without.

    A text all of whose tokens were kept is cut into the same pieces and gets the same outputs (of a language model, the
    kept columns of its logits). Special and added tokens, the unknown piece and single bytes always stay. Call it
    before `build_student`, and make inputs and calibration with the new tokenizer.

    Args:
        keep: token ids, for example of `used_tokens`.
        inputs: example keyword tensors of forward, for a model whose configuration does not set its vocabulary.

    Raises:
        InputError: an id that does not exist, a tokenizer that is not fast, or a model without a table of tokens.
    """
    state = read_state(tokenizer)
    asked = set(keep)
    _check(asked, set(pieces_of(state).values()))
    table = find_table(teacher, inputs)
    size = len(teacher.get_parameter(table))
    rows = [row for row in close_pieces(state, asked | special_ids(teacher)) if 0 <= row < size]
    return keep_rows(teacher, table, rows, inputs), trim_tokenizer(tokenizer, rows)


def used_tokens(tokenizer: Any, texts: Iterable[str], min_count: int = 1) -> list[int]:
    """The ids that occur at least `min_count` times in these texts, ascending; texts are read a thousand at a time."""
    counts: Counter[int] = Counter()
    remaining = iter(texts)
    while some := list(islice(remaining, TEXTS_AT_ONCE)):
        for ids in tokenizer(some, add_special_tokens=False)["input_ids"]:
            counts.update(ids)
    return sorted(index for index, count in counts.items() if count >= min_count)


def _check(asked: set[int], known: set[int]) -> None:
    if not asked:
        raise InputError("trim_vocabulary(keep=[]) would leave no tokens; give ids such as those of used_tokens.")
    if unknown := asked - known:
        raise InputError(
            f"The tokenizer has no token of id {min(unknown)}; keep must hold ids from {min(known)} to {max(known)}."
        )
