"""Augmentation of texts: words replaced by near ones, by the teacher's own word embeddings."""

import random
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.errors import InputError

WORD = re.compile(r"[^\W\d_]+")
WORDS_AT_ONCE = 512


def replace_words(
    texts: Sequence[str],
    tokenizer: Any,
    teacher: nn.Module,
    *,
    copies: int = 1,
    share: float = 0.4,
    neighbours: int = 15,
    seed: int = 0,
) -> list[list[str]]:
    """Copies of all texts in which words give way to one of their nearest neighbours; the same for the same seed.

    A word can be replaced where it is one token, and so has an embedding of its own; then it is with probability
    `share`, by one of the `neighbours` such words of greatest cosine, each as likely as the others. After the data
    augmentation of TinyBERT (Jiao et al., 2020), which draws from a masked language model and GloVe; of what comes out
    the teacher's logits say how far it still deserves its label.

    Returns:
        A list of texts for each copy, in the order of `texts`.

    Raises:
        InputError: the teacher has no word embeddings.
    """
    near = near_words({word for text in texts for word in WORD.findall(text)}, tokenizer, teacher, neighbours)
    draws = random.Random(seed)

    def replaced(match: re.Match[str]) -> str:
        choices = near.get(match.group())
        return draws.choice(choices) if choices and draws.random() < share else match.group()

    return [[WORD.sub(replaced, text) for text in texts] for _ in range(copies)]


def near_words(words: Iterable[str], tokenizer: Any, teacher: nn.Module, count: int) -> dict[str, list[str]]:
    """For each of these words that is one token the `count` others nearest to it, nearest first."""
    table = _word_table(teacher)
    whole = _whole_words(tokenizer, len(table))
    rows = {index: row for row, index in enumerate(whole)}
    directions = nn.functional.normalize(table[list(whole)].float(), dim=-1)
    asked = sorted(words)
    known = {word: rows[ids[0]] for word, ids in zip(asked, _ids(tokenizer, asked), strict=True) if _one_of(ids, rows)}
    spellings = list(whole.values())
    found: dict[str, list[str]] = {}
    for start in range(0, len(known), WORDS_AT_ONCE):
        some = list(known.items())[start : start + WORDS_AT_ONCE]
        own = torch.tensor([row for _, row in some])
        cosines = directions[own] @ directions.T
        cosines[torch.arange(len(own)), own] = -2.0
        nearest = cosines.topk(min(count, len(spellings) - 1)).indices.tolist()
        for (word, _), chosen in zip(some, nearest, strict=True):
            found[word] = [spellings[row] for row in chosen]
    return found


def _word_table(teacher: nn.Module) -> Tensor:
    """(tokens, d), also where the embedding is a product of two."""
    try:
        embedding = teacher.get_input_embeddings()  # type: ignore[operator]
        size = int(teacher.config.vocab_size)  # type: ignore[union-attr, arg-type]
    except (AttributeError, NotImplementedError):
        raise InputError(
            f"{type(teacher).__name__} has no word embeddings to find near words by; leave data.augmentation out, or "
            "give compress(recipe, out, augment=...) a function of your own."
        ) from None
    device = next(embedding.parameters()).device
    with torch.no_grad():
        rows: Tensor = embedding(torch.arange(size, device=device))
    return rows.cpu()


def _whole_words(tokenizer: Any, size: int) -> dict[int, str]:
    """Token -> word, of all tokens that are a whole word when it stands alone."""
    special = set(tokenizer.all_special_ids)
    ids = [index for index in range(min(size, len(tokenizer))) if index not in special]
    spelled = [text.strip() for text in tokenizer.batch_decode([[index] for index in ids])]
    words = {index: text for index, text in zip(ids, spelled, strict=True) if WORD.fullmatch(text)}
    encoded = _ids(tokenizer, list(words.values()))
    return {index: word for (index, word), those in zip(words.items(), encoded, strict=True) if those == [index]}


def _ids(tokenizer: Any, words: list[str]) -> list[list[int]]:
    return list(tokenizer(words, add_special_tokens=False)["input_ids"]) if words else []


def _one_of(ids: Sequence[int], known: dict[int, int]) -> bool:
    return len(ids) == 1 and ids[0] in known
