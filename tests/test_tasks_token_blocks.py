"""Packed blocks: nothing is lost but the end, nothing is padded, and the tokens lie on disk."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from task_jobs import WORDS, make_tokenizer

from edgefold.data.plain_text import find_texts
from edgefold.errors import InputError
from edgefold.tasks.token_blocks import LINES_AT_ONCE, TokenBlocks, check_blocks, write_tokens

pytestmark = pytest.mark.filterwarnings("ignore")


def test_blocks_are_the_text_in_order(tmp_path: Path) -> None:
    lines = [" ".join(WORDS[(i * k) % 14] for k in range(1, 4)) for i in range(2 * LINES_AT_ONCE + 5)]
    (tmp_path / "a.txt").write_text("\n".join(lines[:7]) + "\n")
    (tmp_path / "b.txt").write_text("\n".join(lines[7:]))
    tokenizer = make_tokenizer()
    tokenizer.eos_token = "[SEP]"
    tokens = write_tokens(find_texts(tmp_path), tokenizer)
    end = [tokenizer.eos_token_id]
    expected = [
        *tokenizer(" ".join(lines[:7]), add_special_tokens=False)["input_ids"],
        *end,
        *tokenizer(" ".join(lines[7:]), add_special_tokens=False)["input_ids"],
        *end,
    ]
    assert isinstance(tokens, np.memmap)
    assert tokens.tolist() == expected
    blocks = TokenBlocks(tokens, 16, (2,), (3,))
    assert len(blocks) == len(expected) // 14
    assert [blocks[i]["input_ids"] for i in (0, 3)] == [[2, *expected[:14], 3], [2, *expected[42:56], 3]]
    assert blocks[1]["attention_mask"] == [1] * 16


def test_a_text_too_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("worda wordb")
    texts = find_texts(tmp_path / "a.txt")
    blocks = TokenBlocks(write_tokens(texts, make_tokenizer()), 3)
    with pytest.raises(InputError, match=r"a\.txt fills no block of 3 tokens"):
        check_blocks(blocks, texts, 3)


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    """What Python holds at most while a text, and one eight times as long, is written and read: the same."""
    tokenizer = make_tokenizer()
    peaks = []
    for times in (4, 32):
        line = " ".join(WORDS[:4]) + "\n"
        (tmp_path / "a.txt").write_text(line * LINES_AT_ONCE * times)
        texts = find_texts(tmp_path / "a.txt")
        tracemalloc.start()
        blocks = TokenBlocks(write_tokens(texts, tokenizer), 16)
        for i in range(0, len(blocks), 100):
            assert len(blocks[i]["input_ids"]) == 16
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(blocks) == times * LINES_AT_ONCE // 4
    assert peaks[1] < 1.2 * peaks[0]
