"""Speech recognition: labels and what the decoder is given, and the whole job on a tiny Whisper."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_jobs import VOCABULARY, WORDS, interrupt_and_resume, make_tokenizer, write_job, write_rows

from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.recipe import load_recipe
from edgefold.tasks.speech_recognition import SpeechProcessor, speech_collator

pytestmark = pytest.mark.filterwarnings("ignore")
DATA = "{train: train.jsonl, validation: validation.jsonl, test: test.jsonl, max_target_length: 8}"
START, END, PAD = 2, 3, 0


def make_teacher() -> Any:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    sides = ("encoder", "decoder")
    sizes: dict[str, int] = {
        **{f"{side}_layers": 1 for side in sides},
        **{f"{side}_attention_heads": 4 for side in sides},
        **{f"{side}_ffn_dim": 48 for side in sides},
    }
    tokens = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END, "decoder_start_token_id": START}
    config = WhisperConfig(
        vocab_size=len(VOCABULARY),
        d_model=24,
        num_mel_bins=8,
        max_source_positions=50,
        max_target_positions=32,
        **sizes,
        **tokens,
    )
    return WhisperForConditionalGeneration(config)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    from transformers import WhisperFeatureExtractor

    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("validation", 4), ("test", 4)):
        for number in range(count):
            with wave.open(str(tmp_path / f"{split}{number}.wav"), "wb") as stream:
                stream.setnchannels(1)
                stream.setsampwidth(2)
                stream.setframerate(16000)
                stream.writeframes((generator.normal(size=4000) * 3000).astype("<i2").tobytes())
        texts = (" ".join(WORDS[(number * k) % 14] for k in range(3, 6)) for number in range(count))
        write_rows(
            tmp_path / f"{split}.jsonl", ({"audio": f"{split}{i}.wav", "text": text} for i, text in enumerate(texts))
        )
    extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    processor = SpeechProcessor(extractor, make_tokenizer())
    plan = "plan: [select: {dimension: ffn, size: 16}]\n"
    more = "objective: {hidden: 0}\n"
    return write_job(tmp_path, "speech-recognition", make_teacher(), processor, DATA, plan=plan, more=more)


def test_the_decoder_sees_the_labels_one_step_late() -> None:
    """As the model itself moves them when it is given labels alone: its loss is the same."""
    teacher = make_teacher().eval()
    features = torch.randn(2, 8, 100)
    labels = [[START, 7, 8, 9, END], [START, 10, END]]
    rows = [{"input_features": f, "labels": row} for f, row in zip(features, labels, strict=True)]
    batch = speech_collator(teacher)(rows)
    assert batch["labels"].tolist() == [[7, 8, 9, END], [10, END, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[START, 7, 8, 9], [START, 10, END, PAD]]
    with torch.no_grad():
        given = teacher(**batch).loss
        alone = teacher(input_features=batch["input_features"], labels=batch["labels"]).loss
    assert float(given) == pytest.approx(float(alone), rel=1e-6)


def test_a_stopped_job_resumes_and_ends_in_an_ordinary_checkpoint(recipe: Path, tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor, AutoModelForSpeechSeq2Seq

    result = interrupt_and_resume(recipe, tmp_path / "student")
    for split in ("untrained", "validation", "test", "teacher_test"):
        assert result.metrics[f"{split}_word_error_rate"] >= 0
    student = AutoModelForSpeechSeq2Seq.from_pretrained(result.student)
    assert student.config.decoder_ffn_dim == 16
    opener: Any = AutoFeatureExtractor
    assert opener.from_pretrained(result.student).feature_size == 8


def test_refusals(recipe: Path, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "train1.wav"), "wb") as stream:
        stream.setparams((1, 2, 8000, 0, "NONE", ""))
        stream.writeframes(bytes(8))
    with pytest.raises(InputError, match=r"line 2: .*train1\.wav has 8000 samples a second, the model wants 16000"):
        compress(load_recipe(recipe), tmp_path / "student")
