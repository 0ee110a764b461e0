"""Tokenized data and accuracy, against their definitions."""

from pathlib import Path
from typing import Any

import pytest
import torch

from edgefold.data.texts import Example
from edgefold.tasks.batches import EncodedRows, bare_batches
from edgefold.tasks.text_classification import accuracy, tokenize

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def tokenizer(job: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(job / "teacher")


@pytest.fixture
def dataset(tokenizer: Any) -> EncodedRows:
    texts = ["worda " * k for k in range(1, 12)]
    return tokenize([Example(text, i % 2) for i, text in enumerate(texts)], tokenizer, 8)


@pytest.fixture
def collate(tokenizer: Any) -> Any:
    from transformers import DataCollatorWithPadding

    return DataCollatorWithPadding(tokenizer)


def test_texts_are_cut_and_batches_lose_nothing(dataset: EncodedRows, collate: Any) -> None:
    assert max(len(dataset[i]["input_ids"]) for i in range(len(dataset))) == 8
    batches = bare_batches(dataset, collate, 4)
    assert [len(batch["input_ids"]) for batch in batches] == [4, 4, 3]
    assert all("labels" not in batch for batch in batches)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert tokens == sum(len(dataset[i]["input_ids"]) for i in range(len(dataset)))


def test_accuracy_is_the_share_of_right_rows(job: Path, dataset: EncodedRows, collate: Any) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(job / "teacher").train()
    right = 0
    for i in range(len(dataset)):
        row = dataset[i]
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([row["input_ids"]])).logits
        right += int(logits.argmax()) == row["labels"]
    model.train()
    assert accuracy(model, dataset, collate, batch_size=3) == right / len(dataset)
    assert model.training
