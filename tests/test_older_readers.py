"""Tokenizer and processor files that transformers 4 and transformers.js read, and version 5 reads the same from."""

import json
from pathlib import Path
from typing import Any

import pytest
from task_jobs import WORDS, make_tokenizer

from edgefold.exporters.older_readers import suit_older_readers


def read(path: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(path.read_text())
    return fields


def test_a_tokenizer_has_its_older_names_and_opens_as_before(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<a>", "<b>"]})
    tokenizer.save_pretrained(tmp_path)
    assert read(tmp_path / "tokenizer_config.json")["extra_special_tokens"] == ["<a>", "<b>"]
    suit_older_readers(tmp_path)
    config = read(tmp_path / "tokenizer_config.json")
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["additional_special_tokens"] == ["<a>", "<b>"]
    assert "extra_special_tokens" not in config
    text = f"{WORDS[0]} <a> {WORDS[3]}"
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert opened(text, text) == tokenizer(text, text)
    assert opened.all_special_tokens == tokenizer.all_special_tokens


def test_what_a_processor_nests_has_a_file_of_its_own(tmp_path: Path) -> None:
    fields = {"feature_extractor": {"feature_size": 8}, "processor_class": "WhisperProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(fields))
    suit_older_readers(tmp_path)
    assert read(tmp_path / "preprocessor_config.json") == {"feature_size": 8}
    assert read(tmp_path / "processor_config.json") == fields


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"tokenizer_config.json": '{"tokenizer_class":"BertTokenizer"}'},
        {"preprocessor_config.json": "{}", "processor_config.json": '{"image_processor": {"size": 1}}'},
        {"processor_config.json": '{"image_processor": {}, "feature_extractor": {}}'},
    ],
)
def test_what_needs_no_mending_is_left_as_it_is(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    suit_older_readers(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files
