"""Small models, saved with all that a pipeline of transformers needs: folded students, and two that are whole.

Their weights are random, and so large that answers differ.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from generating_models import noisy
from packed_whisper import END, NO_TIMES, make_whisper, make_whisper_tokenizer
from task_jobs import SIZES, VOCABULARY, WORDS, make_tokenizer

from edgefold import Plan, Project, Select, build_student, fold, save_student

TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
TEXTS = [" ".join(WORDS[(i * k + k) % 14] for k in range(1, 6 + i)) for i in range(3)]
RATE = 16_000


@dataclass(frozen=True)
class Opened:
    """What a pipeline is made of, and given."""

    task: str
    save: Callable[[Path], None]
    samples: list[Any]
    """JSON-able, or the path of an image."""


def save_bert(head: str) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        import transformers

        labels = {"id2label": {0: "bad", 1: "good", 2: "so-so"}, "label2id": {"bad": 0, "good": 1, "so-so": 2}}
        config = transformers.BertConfig(**SIZES, **({} if head == "Model" else labels), tie_word_embeddings=False)
        if head == "ForQuestionAnswering":
            config.num_labels = 2
        teacher = noisy(getattr(transformers, f"Bert{head}"), config)
        tokenizer = make_tokenizer()
        inputs = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))
        steps = [Project("hidden", 16), Select("ffn", 16), Select("heads", 2)]
        if head == "Model":  # whose hidden states are what it is asked for
            steps = [Select("units.*", 16), Select("heads.*", 2)]
        student = build_student(teacher, Plan(steps), inputs, calibration=[inputs])
        save_student(fold(student), folder, tokenizer=tokenizer)

    return save


def save_vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=4)
    teacher = noisy(ViTForImageClassification, config)
    inputs = {"pixel_values": torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
    student = build_student(teacher, Plan([Select("ffn", 24)]), inputs, calibration=[inputs])
    processor: Any = ViTImageProcessorPil(size={"height": 16, "width": 16})
    save_student(fold(student), folder, tokenizer=processor)


def save_llama(folder: Path) -> None:
    from tokenizers import processors
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3}
    config = LlamaConfig(**sizes, **TOKENS, vocab_size=len(VOCABULARY), intermediate_size=48)
    teacher, tokenizer = noisy(LlamaForCausalLM, config), make_tokenizer()
    tokenizer.padding_side = "left"
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([])  # no [CLS], which transformers.js leaves out
    inputs = {"input_ids": tokenizer(TEXTS, padding=True, return_tensors="pt").input_ids}
    student = build_student(teacher, Plan([Select("ffn", 32)]), inputs, calibration=[inputs])
    save_student(fold(student), folder, tokenizer=tokenizer)


def save_t5(folder: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 24, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_heads": 4, "vocab_size": len(VOCABULARY)}
    config = T5Config(**sizes, pad_token_id=0, eos_token_id=3, decoder_start_token_id=0)
    noisy(T5ForConditionalGeneration, config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)


def save_whisper(folder: Path) -> None:
    from transformers import WhisperFeatureExtractor, WhisperTokenizer

    model = make_whisper()
    model.generation_config.update(
        is_multilingual=False, no_timestamps_token_id=NO_TIMES, suppress_tokens=[3], begin_suppress_tokens=[END]
    )
    model.save_pretrained(folder)
    extractor: Any = WhisperFeatureExtractor(feature_size=model.config.num_mel_bins, chunk_length=1)
    extractor.save_pretrained(folder)
    make_whisper_tokenizer().save(str(folder / "tokenizer.json"))
    tokenizer: Any = WhisperTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.save_pretrained(folder)


def write_image(folder: Path) -> str:
    """A picture of noise; returns its path."""
    from PIL import Image

    path = folder / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return str(path)


def sound(seconds: float) -> dict[str, Any]:
    return {"raw": np.random.default_rng(0).normal(0, 0.1, int(RATE * seconds)).tolist(), "sampling_rate": RATE}


QUESTION = {"question": TEXTS[0], "context": TEXTS[2]}
MODELS = {
    "text-classification": Opened("text-classification", save_bert("ForSequenceClassification"), TEXTS),
    "token-classification": Opened("token-classification", save_bert("ForTokenClassification"), TEXTS),
    "question-answering": Opened("question-answering", save_bert("ForQuestionAnswering"), [QUESTION]),
    "fill-mask": Opened("fill-mask", save_bert("ForMaskedLM"), [f"{TEXTS[0]} [MASK]"]),
    "feature-extraction": Opened("feature-extraction", save_bert("Model"), TEXTS),
    "image-classification": Opened("image-classification", save_vit, []),
    "text-generation": Opened("text-generation", save_llama, TEXTS),
    "text2text-generation": Opened("text2text-generation", save_t5, TEXTS),
    "automatic-speech-recognition": Opened("automatic-speech-recognition", save_whisper, [sound(0.7)]),
}
"""Task -> what its pipeline opens; the image's path is `write_image`'s."""
