"""What a model reads, told by its architecture and the files beside it."""

import json
from pathlib import Path

import pytest

from edgefold.cli import samples
from edgefold.errors import InputError

PROCESSOR, TOKENIZER = "preprocessor_config.json", "tokenizer.json"


@pytest.mark.parametrize(
    ("architecture", "vocab_size", "files", "kind"),
    [
        ("BertModel", 9, (), "texts"),
        ("OddModel", None, (TOKENIZER,), "texts"),
        ("BertForPreTraining", 9, (TOKENIZER,), "texts"),
        ("BertForSequenceClassification", 9, (), "texts"),
        ("Gemma3ForConditionalGeneration", None, (PROCESSOR,), "texts"),
        ("BertForQuestionAnswering", 9, (TOKENIZER,), "questions"),
        ("ViTForImageClassification", None, (PROCESSOR,), "images"),
        (None, None, (PROCESSOR,), "images"),
        ("WhisperForConditionalGeneration", 9, (PROCESSOR, TOKENIZER), "speech"),
        ("ViTModel", None, (), "made-up"),
        ("ViltForQuestionAnswering", 9, (PROCESSOR, TOKENIZER), "made-up"),
        ("CLIPModel", None, ("processor_config.json", TOKENIZER), "made-up"),
        ("Wav2Vec2ForSequenceClassification", 9, (PROCESSOR,), "made-up"),
        ("Wav2Vec2ForCTC", 9, (PROCESSOR, TOKENIZER), "made-up"),
        ("BertForMultipleChoice", 9, (TOKENIZER,), "made-up"),
    ],
)
def test_what_a_model_reads_is_told_by_its_architecture_and_its_files(
    architecture: str | None, vocab_size: int | None, files: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    config = {"architectures": architecture and [architecture], **({"vocab_size": vocab_size} if vocab_size else {})}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name in files:
        (tmp_path / name).write_text("{}")
    assert samples.find_kind(tmp_path) == kind


@pytest.mark.parametrize("text", ["{", "[1]", '{"architectures": 5}'])
def test_a_configuration_that_is_none_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json cannot be read as JSON"):
        samples.find_kind(tmp_path)
