"""Augmented texts: the same for a seed, words for near words, labels kept, and nothing else of the data touched."""

from pathlib import Path
from typing import Any

import pytest
import torch
from task_jobs import SIZES, WORDS, make_tokenizer

from edgefold.augmentation import near_words, replace_words
from edgefold.data.texts import Example
from edgefold.errors import InputError
from edgefold.recipes.data import AugmentationSettings, TextData

TEXTS = ["worda wordb wordas, [MASK] wordc!", "wordn  wordn"]


@pytest.fixture(scope="module")
def teacher() -> Any:
    """Word i lies at an angle of i / 20, so that its neighbours are those beside it."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model: Any = BertForSequenceClassification(BertConfig(**SIZES))
    tokenizer = make_tokenizer()
    with torch.no_grad():
        for i, word in enumerate(WORDS):
            row = model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(word)]
            row.zero_()
            row[:2] = (1 + i) * torch.tensor([torch.cos(torch.tensor(i / 20)), torch.sin(torch.tensor(i / 20))])
    return model


def test_near_words_are_those_of_greatest_cosine(teacher: Any) -> None:
    near = near_words(["worda", "wordg", "wordas", "unknown"], make_tokenizer(), teacher, 2)
    assert near["worda"] == ["wordb", "wordc"]
    assert set(near["wordg"]) == {"wordf", "wordh"}
    assert near.keys() == {"worda", "wordg"}  # the others are several tokens, or none


def test_whole_words_give_way_to_near_ones(teacher: Any) -> None:
    (copy,) = replace_words(TEXTS, make_tokenizer(), teacher, share=1.0, neighbours=1)
    assert copy == ["wordb wordc wordas, [MASK] wordb!", "wordm  wordm"] or copy == [
        "wordb worda wordas, [MASK] wordb!",
        "wordm  wordm",
    ]


def test_a_seed_says_all(teacher: Any) -> None:
    given: dict[str, Any] = {"copies": 2, "share": 0.5, "neighbours": 5}
    tokenizer = make_tokenizer()
    one, again, other = (replace_words(TEXTS * 5, tokenizer, teacher, **given, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert one[0] != one[1]
    assert [len(copy) for copy in one] == [10, 10]


def test_a_model_without_word_embeddings_is_refused() -> None:
    with pytest.raises(InputError, match=r"Linear has no word embeddings .* leave data\.augmentation out"):
        replace_words(TEXTS, make_tokenizer(), torch.nn.Linear(2, 2))


def test_copies_keep_their_labels_and_other_splits_their_texts(teacher: Any, tmp_path: Path) -> None:
    from edgefold.jobs.stage_inputs import open_stage
    from edgefold.recipes.stages import Job

    teacher.save_pretrained(tmp_path / "teacher")
    make_tokenizer().save_pretrained(tmp_path / "teacher")
    rows = [(f"worda word{letter}", index % 2) for index, letter in enumerate("abcdefgh")]
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    paths = dict.fromkeys(("train", "validation", "test"), tmp_path / "rows.csv")
    settings = AugmentationSettings(copies=2, share=1.0, neighbours=3)
    job = Job(teacher=tmp_path / "teacher", data=TextData(**paths, augmentation=settings))
    opened = open_stage(job, augment=lambda examples: [*examples, Example("wordz", 1)])
    plain = [Example(text, label) for text, label in rows]
    train = opened.splits.train
    assert [*opened.splits.validation] == [*opened.splits.test] == plain
    assert [*train[:8]] == plain
    assert [example.label for example in train] == [label for _, label in rows] * 3 + [1]
    assert not {example.text for example in train[8:-1]} & {example.text for example in plain}
    assert train[-1] == Example("wordz", 1)
