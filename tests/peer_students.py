"""Smaller classifiers by other tools, trained for given seconds; the validation texts choose their learning rate."""

import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demo_teacher import Demo
from peer_environments import TORCH, own_environment, own_folder, run_in
from torch import nn
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from edgefold.cli.demo_rivals import train_for
from edgefold.distillation import Objective
from edgefold.folding import fold
from edgefold.plans import Plan, Select
from edgefold.recipes.recipe import Recipe
from edgefold.student_building import build_student
from edgefold.tasks.batches import bare_batches

SCRIPTS = Path(__file__).with_name("benchmarks") / "peers"
MODELOPT = ("modelopt-0.47", (TORCH, "nvidia-modelopt[onnx]==0.47.0", "transformers", "requests"))
TORCH_PRUNING = ("torch-pruning-1.6.1", ("torch-pruning==1.6.1",))
IMPORTANCE_ROWS = 512


@dataclass(frozen=True)
class Shape:
    """What is left of a BERT; the hidden width as a share of the teacher's."""

    hidden: float
    heads: int
    neurons: int
    rates: tuple[float, ...]


SHAPES = {
    "a third of the width": Shape(1 / 3, 4, 512, (2e-4, 4e-4)),
    "2 heads, 192 neurons": Shape(1, 2, 192, (2e-4, 4e-4)),
}
"""As edgefold's student of the demo, and at the whole width with a quarter more parameters in the encoder."""
SECOND_LAYER_RATES = (1e-4, 2e-4)


def prune(demo: Demo, shape: Shape) -> nn.Module:
    """By Torch-Pruning, in one step: first-order importance (Molchanov et al., 2019) of the training loss."""
    sys.path.insert(0, str(own_folder(*TORCH_PRUNING)))
    import torch_pruning  # its folder has just been made

    # Within torch's fused attention its tracing does not follow the width.
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        demo.folder / "teacher", attn_implementation="eager"
    ).eval()
    heads, layers = model.config.num_attention_heads, model.bert.encoder.layer
    attentions = [layer.attention.self for layer in layers]
    pruner = torch_pruning.pruner.BasePruner(
        model,
        {name: value[:2] for name, value in demo.calibration[0].items()},
        importance=torch_pruning.importance.GroupTaylorImportance(),
        pruning_ratio=gone(shape.hidden if shape.hidden < 1 else shape.heads / heads),
        pruning_ratio_dict={
            each.intermediate.dense: gone(shape.neurons / model.config.intermediate_size) for each in layers
        },
        num_heads={linear: heads for each in attentions for linear in (each.query, each.key, each.value)},
        prune_num_heads=True,
        prune_head_dims=False,
        head_pruning_ratio=gone(shape.heads / heads),
        ignored_layers=[model.classifier] if shape.hidden < 1 else on_the_stream(model),
        output_transform=lambda output: output.logits,
    )
    gather_gradients(model, demo)
    for group in pruner.step(interactive=True):
        group.prune()
    model.zero_grad()
    for each in attentions:
        each.num_attention_heads, each.all_head_size = pruner.num_heads[each.query], each.query.out_features
        each.attention_head_size = each.all_head_size // each.num_attention_heads
    return model  # type: ignore[no-any-return]


def gone(kept: float) -> float:
    """A ratio that is not rounded up to one coordinate too many."""
    return 1 - kept - 1e-9


def on_the_stream(model: Any) -> list[nn.Module]:
    """What writes the hidden states, which then keep their width."""
    embeddings = model.bert.embeddings
    tables = [embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings]
    layers = model.bert.encoder.layer
    writers = [dense for each in layers for dense in (each.attention.output.dense, each.output.dense)]
    return [*tables, *writers, model.bert.pooler.dense, model.classifier]


def gather_gradients(model: nn.Module, demo: Demo) -> None:
    collate = DataCollatorWithPadding(demo.tokenizer)
    for start in range(0, IMPORTANCE_ROWS, 32):
        model(**collate([demo.train[i] for i in range(start, start + 32)])).loss.backward()


class PeerTrainings:
    """What is trained for these seconds of the processor, on one thread."""

    def __init__(self, demo: Demo, recipe: Recipe, seconds: float, out: Path) -> None:
        self.demo, self.recipe, self.seconds, self.out = demo, recipe, seconds, out

    def pruned(self, name: str) -> nn.Module:
        """Torch-Pruning's student of one of SHAPES, with edgefold's trainer: labels and the teacher's logits."""
        shape = SHAPES[name]
        found = {rate: self._train(prune(self.demo, shape), rate, self.seconds) for rate in shape.rates}
        return self._choose(f"Torch-Pruning, {name}", found)

    def own(self, name: str) -> nn.Module:
        """edgefold's student of one of SHAPES that keep the hidden width, its start within the seconds."""
        shape, found = SHAPES[name], {}
        collate = DataCollatorWithPadding(self.demo.tokenizer)
        calibration = bare_batches(self.demo.train, collate, 16, self.recipe.calibration.samples)
        plan = Plan([Select("heads", shape.heads), Select("ffn", shape.neurons)])
        begun = time.process_time()
        student = build_student(self.demo.teacher, plan, self.demo.calibration[0], calibration, "weights")
        took = time.process_time() - begun
        for rate in shape.rates:
            trained = copy.deepcopy(student)
            self._train(trained, rate, self.seconds - took, self.recipe.objective.hidden)
            found[rate] = fold(trained)
        return self._choose(f"edgefold, {name}", found)

    def every_second_layer(self) -> nn.Module:
        """By ModelOpt's distillation, in its own environment; its teacher computes anew in every step."""
        np.savez(self.out / "train.npz", **padded(self.demo, ("input_ids", "attention_mask", "labels")))
        given = (str(self.demo.folder / "teacher"), str(self.out / "train.npz"))
        found = {}
        for rate in SECOND_LAYER_RATES:
            folder = self.out / f"modelopt-{rate}"
            arguments = (*given, str(rate), str(self.seconds), str(folder))
            print(rate, run_in(own_environment(*MODELOPT), SCRIPTS / "modelopt_student.py", *arguments), flush=True)
            found[rate] = AutoModelForSequenceClassification.from_pretrained(folder)
        return self._choose("ModelOpt, every second layer", found)

    def _train(self, student: nn.Module, rate: float, seconds: float, hidden: float = 0.0) -> nn.Module:
        settings = self.recipe.training.model_copy(update={"learning_rate": rate})
        objective = Objective(task=self.recipe.objective.task, logits=self.recipe.objective.logits, hidden=hidden)
        data = (self.demo.train, DataCollatorWithPadding(self.demo.tokenizer), self.out / "training", "peer")
        given = (seconds, student, self.demo.teacher, objective, settings, *data)
        train_for(*given, lambda *_: None, now=time.process_time)
        return student

    def _choose(self, name: str, found: dict[float, Any]) -> nn.Module:
        right = {rate: accuracy_in_torch(model, self.demo) for rate, model in found.items()}
        print(f"{name}: validation accuracy by learning rate {right}", flush=True)
        return found[max(right, key=lambda rate: right[rate])]  # type: ignore[no-any-return]


def accuracy_in_torch(model: nn.Module, demo: Demo) -> float:
    """On the validation texts."""
    collate, rows, right = DataCollatorWithPadding(demo.tokenizer), demo.validation, 0
    model.eval()
    with torch.no_grad():
        for start in range(0, len(rows), 50):
            batch = collate([rows[i] for i in range(start, min(start + 50, len(rows)))])
            right += int((model(**batch).logits.argmax(-1) == batch["labels"]).sum())
    return right / len(rows)


def padded(demo: Demo, names: Sequence[str], count: int | None = None) -> dict[str, Any]:
    """The first rows of the training texts as (rows, longest) arrays of these names."""
    rows = [demo.train[i] for i in range(count or len(demo.train))]
    batch = DataCollatorWithPadding(demo.tokenizer, return_tensors="np")(rows)
    return {name: np.asarray(batch[name], np.int64) for name in names}
