"""Speech recognition: what is said in a recording, written token after token (Whisper)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoModelForSpeechSeq2Seq

from edgefold.data.speech import Recording, read_recordings
from edgefold.distillation.logits import IGNORED
from edgefold.errors import InputError
from edgefold.preprocessors import open_feature_extractor
from edgefold.recipes.data import SpeechData
from edgefold.scores.word_errors import word_error_rate
from edgefold.tasks.batches import run_over
from edgefold.tasks.opening import open_tokenizer, teacher_opener
from edgefold.tasks.sequence_to_sequence import written_ids
from edgefold.tasks.task import Collate, Metric, Row, Splits, Task

EVALUATION_BATCH = 8


@dataclass(frozen=True)
class SpeechProcessor:
    """What makes features of samples, and tokens of text."""

    extractor: Any
    tokenizer: Any

    def save_pretrained(self, folder: Path) -> None:
        self.extractor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


class Recordings(Dataset[Row]):
    """Recordings as features, each when it is asked for, with the tokens of their texts as labels."""

    def __init__(self, recordings: Sequence[Recording], processor: SpeechProcessor, longest: int) -> None:
        self.recordings = recordings
        self.processor = processor
        self.longest = longest

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, index: int) -> Row:
        """{"input_features": (mel bins, frames), "labels": token ids}"""
        recording = self.recordings[index]
        extracted = self.processor.extractor(recording.samples(), sampling_rate=recording.rate, return_tensors="pt")
        labels = self.processor.tokenizer(recording.text, truncation=True, max_length=self.longest)["input_ids"]
        return {"input_features": extracted["input_features"][0], "labels": labels}


def speech_collator(teacher: Any) -> Collate:
    """Features stacked, labels padded; decoder_input_ids are the labels moved by one behind the start token."""
    start, pad = teacher.config.decoder_start_token_id, teacher.config.pad_token_id

    def collate(rows: list[Any]) -> dict[str, Tensor]:
        labels = [torch.tensor(row["labels"][1:] if row["labels"][:1] == [start] else row["labels"]) for row in rows]
        padded = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        moved = torch.cat([torch.full((len(rows), 1), start), padded[:, :-1]], 1)
        return {
            "input_features": torch.stack([row["input_features"] for row in rows]),
            "decoder_input_ids": moved.masked_fill(moved == IGNORED, pad),
            "labels": padded,
        }

    return collate


def evaluate_transcripts(model: nn.Module, dataset: Recordings, collate: Collate) -> dict[str, float]:
    """The word error rate of what the model writes, greedily."""
    written: dict[int, str] = {}
    for rows, batch, _ in run_over(model, dataset, collate, size=EVALUATION_BATCH):
        ids = written_ids(model, {"input_features": batch["input_features"]}, dataset.longest)
        texts = dataset.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        written |= dict(zip(rows, texts, strict=True))
    references = [recording.text for recording in dataset.recordings]
    return {"word_error_rate": word_error_rate([written[i] for i in range(len(dataset))], references)}


def _open_processor(folder: Path) -> SpeechProcessor:
    return SpeechProcessor(open_feature_extractor(folder), open_tokenizer(folder))


def _encode(recordings: Sequence[Recording], processor: SpeechProcessor, data: SpeechData) -> Recordings:
    wanted = processor.extractor.sampling_rate
    for recording in recordings:
        if recording.rate != wanted:
            raise InputError(
                f"{recording.where}: {recording.file} has {recording.rate} samples a second, the model wants {wanted}; "
                "resample it."
            )
    return Recordings(recordings, processor, data.max_target_length)


def _read(data: SpeechData, teacher: nn.Module) -> Splits:
    return Splits(*map(read_recordings, data.paths.values()))


SPEECH_RECOGNITION = Task(
    metrics=(Metric("word_error_rate", greater_is_better=False),),
    open_teacher=teacher_opener(AutoModelForSpeechSeq2Seq),
    start_teacher=lambda folder, data: teacher_opener(AutoModelForSpeechSeq2Seq, is_trained=False)(folder),
    read=_read,
    encode=_encode,
    collator=lambda processor, data, teacher: speech_collator(teacher),
    evaluate=evaluate_transcripts,
    open_processor=_open_processor,
    is_cacheable=False,
)
