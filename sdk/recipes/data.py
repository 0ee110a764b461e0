"""The `data:` section of a recipe, one form for each task."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from edgefold.errors import InputError
from edgefold.recipes.sections import Count, Name, RecipePath, Section

Length = Annotated[int, Field(strict=True, ge=2)]
SPLITS = ("train", "validation", "test")


class SplitData(Section):
    """Data that are already split; nothing is chosen on `test`."""

    may_be_folders: ClassVar[bool] = False

    train: RecipePath
    validation: RecipePath
    test: RecipePath

    @property
    def paths(self) -> dict[str, Path]:
        """Of each split, in this order."""
        return {split: getattr(self, split) for split in SPLITS}

    def check_paths(self, section: str = "data") -> None:
        """Refuse, before any work is done, data that are not there.

        Raises:
            InputError: naming the key, in `section`, and the path.
        """
        for key, path in self.paths.items():
            if not (path.is_file() or (self.may_be_folders and path.is_dir())):
                what = "does not exist" if self.may_be_folders else "is not a file"
                raise InputError(f"{section}.{key}: {path} {what}; relative paths start at the recipe's folder.")


class AugmentationSettings(Section):
    """Copies of the training texts in which words are replaced by near ones (after Jiao et al., 2020)."""

    copies: Count = 1
    """Of every text, beside the text itself; each has its label."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Of the words that are one token, how many are replaced."""
    neighbours: Count = 15
    """From how many of the nearest words, by the teacher's word embeddings, the replacement is drawn."""
    seed: Annotated[int, Field(strict=True, ge=0)] = 0


class TextData(SplitData):
    """Labelled text, or pairs of texts (csv, tsv or jsonl)."""

    text: Name = "text"
    """Column of the text."""
    text_pair: Name | None = None
    """Column of the second text, where a label is of two: a premise and a hypothesis, two sentences to compare."""
    label: Name = "label"
    """Column of the label."""
    max_length: Length = 128
    """Tokens kept of each text."""
    augmentation: AugmentationSettings | None = None
    """Of the training texts alone; leave it out to train with them as they are."""


class TaggedData(SplitData):
    """Words and their tags (jsonl), a sentence a row: {"tokens": [...], "tags": [...]}."""

    tokens: Name = "tokens"
    """Column of the words."""
    tags: Name = "tags"
    """Column of the tags, one for each word."""
    max_length: Length = 128
    """Pieces of words kept of each sentence."""


class QuestionData(SplitData):
    """Questions with the spans of a context that answer them (jsonl), as SQuAD has them.

    {"context": ..., "question": ..., "answers": {"text": [...], "answer_start": [...]}}; no answer at all says that the
    context has none.
    """

    max_length: Annotated[int, Field(strict=True, ge=16)] = 384
    """Tokens of one window over the context, the question included."""
    stride: Count = 128
    """Tokens that two windows over a long context share."""
    max_answer_length: Count = 30
    """Tokens of the longest answer that is looked for."""

    @model_validator(mode="after")
    def _windows_move_on(self) -> "QuestionData":
        if 2 * self.stride > self.max_length:
            raise ValueError(
                f"stride {self.stride} is more than half of max_length {self.max_length}; windows would hardly move on"
            )
        return self


class PlainText(SplitData):
    """Text to be modelled: a .txt file, or a folder whose .txt files are read in the order of their names."""

    may_be_folders: ClassVar[bool] = True

    block_length: Length = 128
    """Tokens of one training example; the text is cut into such blocks without padding."""


class MaskedText(PlainText):
    """Text whose tokens are hidden and guessed; `pairs` adds a question about two segments of it.

    "nsp": does the second follow the first (BertForPreTraining); "sop": in which order they stand
    (AlbertForPreTraining).
    """

    mask_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Of the tokens, how many are to be guessed."""
    pairs: Literal["none", "nsp", "sop"] = "none"
    block_length: Annotated[int, Field(strict=True, ge=16)] = 128
    """Tokens of one training example, special ones included."""


class ImageData(SplitData):
    """Labelled images: a folder of class folders of .png and .jpeg files, or an .npz file of `images` and `labels`."""

    may_be_folders: ClassVar[bool] = True


class PairData(SplitData):
    """Sources and their targets (csv, tsv or jsonl): sentences and translations, texts and summaries."""

    source: Name = "source"
    """Column of the source."""
    target: Name = "target"
    """Column of the target."""
    max_source_length: Length = 128
    """Tokens kept of each source."""
    max_target_length: Length = 128
    """Tokens kept of each target, and the most that are written."""


class SpeechData(SplitData):
    """Recordings and their texts (jsonl): {"audio": "one.wav", "text": ...}; 16-bit PCM at the rate of the model."""

    max_target_length: Length = 128
    """Tokens kept of each text, and the most that are written."""


class ChoiceData(SplitData):
    """Categorical ids and a label (csv, tsv or jsonl): who clicked on what, who rated what how."""

    columns: Annotated[tuple[Name, ...], Field(min_length=1)] = ("user", "item")
    """Columns of ids, whole numbers from 0; each is an input of the teacher by this name."""
    label: Name = "label"
    """Column of the label."""


class TensorData(SplitData):
    """Arrays (.npz), one for each input of the model by the name that its forward calls it, rows first."""

    labels: Name = "labels"
    """Array of the labels: the index of a class, or numbers; for each row, or for each place of a row."""


DATA: dict[str, type[SplitData]] = {
    "text-classification": TextData,
    "text-regression": TextData,
    "token-classification": TaggedData,
    "question-answering": QuestionData,
    "language-modeling": PlainText,
    "masked-language-modeling": MaskedText,
    "image-classification": ImageData,
    "translation": PairData,
    "summarization": PairData,
    "speech-recognition": SpeechData,
    "recommendation": ChoiceData,
    "tensor-classification": TensorData,
    "tensor-regression": TensorData,
}
"""Task -> the form of its data."""

DataSettings = (
    TextData
    | TaggedData
    | QuestionData
    | PlainText
    | MaskedText
    | ImageData
    | PairData
    | SpeechData
    | ChoiceData
    | TensorData
)
