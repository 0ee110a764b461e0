"""Run in optimum's own environment: the greedy tokens of an exported folder as JSON. Knows nothing of edgefold."""

import json
import sys

import torch
from optimum.onnxruntime import ORTModelForCausalLM, ORTModelForSeq2SeqLM, ORTModelForSpeechSeq2Seq

CLASSES = {"causal": ORTModelForCausalLM, "sequence": ORTModelForSeq2SeqLM, "speech": ORTModelForSpeechSeq2Seq}
OPTIONS = {"do_sample": False, "num_beams": 1}

kind, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
given = {name: torch.tensor(value) for name, value in json.load(sys.stdin).items()}
model = CLASSES[kind].from_pretrained(folder, local_files_only=True)
tokens = model.generate(**given, max_new_tokens=count, **OPTIONS)
print(json.dumps(tokens.tolist()))
