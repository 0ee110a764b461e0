"""Run by an environment with nvidia-modelopt: every second layer of a classifier, trained with its distillation.

    python modelopt_student.py TEACHER TRAIN.npz RATE SECONDS OUT

TRAIN.npz holds input_ids, attention_mask and labels, padded; a batch is cut to its longest row. As long as the clock
allows, with a linear warm-up and decay by the clock. ModelOpt prunes no encoder on its own (its Minitron is for
Megatron, its FastNAS for convolutions), so the layers are dropped here.
"""

import copy
import sys
import time

import modelopt.torch.distill as mtd
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

WARMUP, BATCH = 0.06, 32
LOGITS, LABELS = 0.7, 0.3


def every_second_layer(teacher: torch.nn.Module) -> torch.nn.Module:
    student = copy.deepcopy(teacher)
    layers = student.bert.encoder.layer
    student.bert.encoder.layer = torch.nn.ModuleList(list(layers)[1::2])
    student.config.num_hidden_layers = len(student.bert.encoder.layer)
    return student


def batches(data: dict[str, np.ndarray], seed: int):
    source = np.random.default_rng(seed)
    while True:
        order = source.permutation(len(data["labels"]))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            length = int(data["attention_mask"][rows].sum(1).max())
            yield {
                name: torch.from_numpy(value[rows] if name == "labels" else value[rows, :length])
                for name, value in data.items()
            }


def main(teacher_folder: str, train: str, rate: str, seconds: str, out: str) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    teacher = AutoModelForSequenceClassification.from_pretrained(teacher_folder).eval()
    pairs = {("classifier", "classifier"): mtd.LogitsDistillationLoss(temperature=2.0, reduction="batchmean")}
    model = mtd.convert(
        every_second_layer(teacher),
        mode=[
            (
                "kd_loss",
                {
                    "teacher_model": teacher,
                    "criterion": pairs,
                    "loss_balancer": mtd.StaticLossBalancer(kd_loss_weight=LOGITS),
                },
            )
        ],
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=float(rate), weight_decay=0.0)
    begun, limit, steps = time.process_time(), float(seconds), 0
    model.train()
    for batch in batches(dict(np.load(train)), 0):
        share = (time.process_time() - begun) / limit
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = float(rate) * (share / WARMUP if share < WARMUP else (1 - share) / (1 - WARMUP))
        loss = model.compute_kd_loss(student_loss=model(**batch).loss)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    mtd.export(model).save_pretrained(out)
    print(f"{steps} steps of {BATCH}")


if __name__ == "__main__":
    main(*sys.argv[1:])
