"""Tokenized data and accuracy, against their definitions."""

from pathlib import Path
from typing import Any

import pytest
import torch

from edgefold.text_classification import TokenizedText, accuracy
from edgefold.text_data import Example

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def tokenizer(job: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(job / "teacher")


@pytest.fixture
def dataset(tokenizer: Any) -> TokenizedText:
    texts = ["worda " * k for k in range(1, 12)]
    return TokenizedText([Example(text, i % 2) for i, text in enumerate(texts)], tokenizer, 8)


def test_texts_are_cut_and_batches_lose_nothing(dataset: TokenizedText, tokenizer: Any) -> None:
    assert max(len(dataset[i]["input_ids"]) for i in range(len(dataset))) == 8
    batches = dataset.batches(tokenizer, 4)
    assert [len(batch["input_ids"]) for batch in batches] == [4, 4, 3]
    assert all("labels" not in batch for batch in batches)
    tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert tokens == sum(len(dataset[i]["input_ids"]) for i in range(len(dataset)))


def test_accuracy_is_the_share_of_right_rows(job: Path, dataset: TokenizedText, tokenizer: Any) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(job / "teacher").eval()
    right = 0
    for i in range(len(dataset)):
        row = dataset[i]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits
        right += int(logits.argmax()) == row["labels"]
    assert accuracy(model, dataset, tokenizer, batch_size=3) == right / len(dataset)
