"""Token classification: alignment of tags with pieces, accuracy by its definition, and the whole job."""

from pathlib import Path
from typing import Any

import pytest
import torch
from task_jobs import SIZES, WORDS, interrupt_and_resume, make_tokenizer, write_job, write_rows

from edgefold.data.tags import TaggedWords
from edgefold.distillation.logits import IGNORED
from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.data import TaggedData
from edgefold.recipes.recipe import load_recipe
from edgefold.tasks.token_classification import TOKEN_CLASSIFICATION, align, evaluate_tags

pytestmark = pytest.mark.filterwarnings("ignore")
TAGS = ("B-X", "B-Y", "I-X", "O")
DATA = "{train: train.jsonl, validation: validation.jsonl, test: test.jsonl, max_length: 32}"


def make_teacher() -> Any:
    from transformers import BertConfig, BertForTokenClassification

    torch.manual_seed(0)
    return BertForTokenClassification(BertConfig(**SIZES, num_labels=4, id2label=dict(enumerate(TAGS))))


def sentence(number: int) -> dict[str, list[str]]:
    words = [WORDS[(number * k) % 14] + "s" * (k % 2) for k in range(3, 6 + number % 4)]
    return {"tokens": words, "tags": ["B-X", "I-X", "O", "B-Y", "O", "O"][: len(words)]}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for split, count in (("train", 32), ("validation", 8), ("test", 8)):
        write_rows(tmp_path / f"{split}.jsonl", map(sentence, range(count)))
    return write_job(tmp_path, "token-classification", make_teacher(), make_tokenizer(), DATA)


def test_the_first_piece_of_a_word_has_its_tag() -> None:
    assert align([None, 0, 0, 1, 2, 2, None], [7, 8, 9]) == [IGNORED, 7, IGNORED, 8, 9, IGNORED, IGNORED]


def test_accuracy_counts_words_one_sentence_at_a_time() -> None:
    """Against a loop that feeds each sentence alone and looks up the first piece of each word by hand."""
    teacher, tokenizer = make_teacher().eval(), make_tokenizer()
    data = TaggedData(train=Path(), validation=Path(), test=Path())
    rows = [TaggedWords(tuple(s["tokens"]), tuple(s["tags"]), 0) for s in map(sentence, range(9))]
    dataset = TOKEN_CLASSIFICATION.encode([(row, TAGS) for row in rows], tokenizer, data)
    right = total = 0
    for row in rows:
        pieces = [tokenizer.tokenize(word) for word in row.words]
        places = [1 + sum(map(len, pieces[:i])) for i in range(len(pieces))]
        with torch.no_grad():
            logits = teacher(input_ids=tokenizer(" ".join(row.words), return_tensors="pt")["input_ids"]).logits[0]
        right += sum(TAGS[int(logits[p].argmax())] == tag for p, tag in zip(places, row.tags, strict=True))
        total += len(places)
    collate = TOKEN_CLASSIFICATION.collator(tokenizer, data, teacher)
    assert evaluate_tags(teacher, dataset, collate)["accuracy"] == right / total


def test_a_stopped_job_resumes_and_ends_in_an_ordinary_checkpoint(recipe: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification

    result = interrupt_and_resume(recipe, tmp_path / "student")
    assert {"test_accuracy", "test_span_f1", "teacher_test_accuracy", "untrained_span_f1"} <= set(result.metrics)
    assert all(0 <= result.metrics[f"{split}_accuracy"] <= 1 for split in ("validation", "test", "teacher_test"))
    assert "eval_span_f1" in result.curve[-1].figures
    student = AutoModelForTokenClassification.from_pretrained(result.student)
    assert student.config.hidden_size == 12
    assert student.config.id2label[0] == "B-X"


def test_refusals(recipe: Path, tmp_path: Path) -> None:
    job = load_recipe(recipe)
    write_rows(tmp_path / "train.jsonl", [sentence(0), {"tokens": ["worda"], "tags": ["B-Z"]}])
    with pytest.raises(InputError, match=r"train\.jsonl, line 2: unknown tag 'B-Z'; known are 'B-X', 'B-Y'"):
        compress(job, tmp_path / "student")
    assert not (tmp_path / "student").exists()
