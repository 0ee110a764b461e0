"""Run in optimum's own environment: opens folders as ORTModelFor… and as a pipeline. Knows nothing of edgefold.

Reads a list of {"task", "folder", "inputs", "samples", "count"} as JSON, writes for each {"outputs"} or
{"tokens"} of the model, the {"answers"} of the pipeline, or the {"error"} that it met.
"""

import json
import sys
import traceback

import numpy as np
import torch
from optimum import onnxruntime as ort
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer, pipeline

CLASSES = {
    "text-classification": ort.ORTModelForSequenceClassification,
    "token-classification": ort.ORTModelForTokenClassification,
    "question-answering": ort.ORTModelForQuestionAnswering,
    "fill-mask": ort.ORTModelForMaskedLM,
    "feature-extraction": ort.ORTModelForFeatureExtraction,
    "image-classification": ort.ORTModelForImageClassification,
    "text-generation": ort.ORTModelForCausalLM,
    "text2text-generation": ort.ORTModelForSeq2SeqLM,
    "automatic-speech-recognition": ort.ORTModelForSpeechSeq2Seq,
}
GENERATING = ("text-generation", "text2text-generation", "automatic-speech-recognition")


def processors(task, folder):
    if task == "image-classification":
        return {"image_processor": AutoImageProcessor.from_pretrained(folder, local_files_only=True)}
    found = {"tokenizer": AutoTokenizer.from_pretrained(folder, local_files_only=True)}
    if task == "automatic-speech-recognition":
        found["feature_extractor"] = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
    return found


def as_given(sample):
    """A recording as an array; whatever else it is, as it came."""
    if isinstance(sample, dict) and "raw" in sample:
        return {**sample, "raw": np.asarray(sample["raw"], np.float32)}
    return sample


def opened(task, folder, inputs, samples, count):
    model = CLASSES[task].from_pretrained(folder, local_files_only=True)
    tensors = {name: torch.tensor(value) for name, value in inputs.items()}
    greedy = {"do_sample": False, "num_beams": 1, "max_new_tokens": count}
    options = {}
    if task in GENERATING:
        found = {"tokens": model.generate(**tensors, **greedy).tolist()}
        options = {"generate_kwargs": greedy} if "speech" in task else greedy
        if task == "text-generation":
            options["return_full_text"] = False
    else:
        found = {"outputs": {name: value.tolist() for name, value in model(**tensors).items()}}
    ask = pipeline(task, model=model, **processors(task, folder))
    return {**found, "answers": [ask(as_given(sample), **options) for sample in samples]}


def error_of(case):
    try:
        return opened(**case)
    except Exception as error:  # whatever they raise is what is asked for
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def plain(value):
    return value.item() if isinstance(value, np.generic) else str(value)


print(json.dumps([error_of(case) for case in json.load(sys.stdin)], default=plain))
