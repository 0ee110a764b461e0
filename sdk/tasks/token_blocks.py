"""A text as blocks of tokens on disk: packed without padding, read back by number, whatever the size of the text."""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from edgefold.data.plain_text import TextFiles, read_lines
from edgefold.errors import InputError
from edgefold.tasks.task import Row

LINES_AT_ONCE = 1000


class TokenBlocks(Dataset[Row]):
    """Blocks of equal length, one a row: {"input_ids", "attention_mask"}; `prefix` and `suffix` frame each.

    Args:
        tokens: (all tokens of the text,); an array on disk will do.
        length: of a block, the frame included. What is left at the end and fills no block is not used.
    """

    def __init__(
        self, tokens: NDArray[np.int32], length: int, prefix: tuple[int, ...] = (), suffix: tuple[int, ...] = ()
    ) -> None:
        self._tokens = tokens
        self._inner = length - len(prefix) - len(suffix)
        self._prefix, self._suffix = list(prefix), list(suffix)

    def __len__(self) -> int:
        return len(self._tokens) // self._inner

    def __getitem__(self, index: int) -> Row:
        inner = self._tokens[index * self._inner : (index + 1) * self._inner].tolist()
        ids = [*self._prefix, *inner, *self._suffix]
        return {"input_ids": ids, "attention_mask": [1] * len(ids)}


def write_tokens(texts: TextFiles, tokenizer: Any) -> NDArray[np.int32]:
    """The tokens of all files, each file ended by the end-of-text token if there is one; (tokens,), on disk.

    Lines are tokenized a thousand at a time and written to an unnamed file in the folder for temporary files ($TMPDIR),
    four bytes a token; it is gone with the array.
    """
    with tempfile.TemporaryFile() as stream:
        for ids in _token_lists(texts, tokenizer):
            stream.write(np.asarray(ids, np.int32).tobytes())
        stream.flush()
        if not stream.tell():
            raise InputError(f"{texts.files[0]} gives no tokens; give more text.")
        return np.memmap(stream, np.int32, mode="r")


def check_blocks(blocks: TokenBlocks, texts: TextFiles, length: int) -> TokenBlocks:
    """Refuse a text that fills no block.

    Raises:
        InputError: naming its first file.
    """
    if not len(blocks):
        raise InputError(f"{texts.files[0]} fills no block of {length} tokens; give more text or a lower block_length.")
    return blocks


def _token_lists(texts: TextFiles, tokenizer: Any) -> Iterator[Iterable[int]]:
    for file in texts.files:
        lines = read_lines(file)
        while some := list(islice(lines, LINES_AT_ONCE)):
            yield from tokenizer(some, add_special_tokens=False, verbose=False)["input_ids"]
        if tokenizer.eos_token_id is not None:
            yield [tokenizer.eos_token_id]
