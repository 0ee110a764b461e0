"""A distillation on a GPU in bfloat16: tokens/s, the share of the card's arithmetic, and the losses of the CPU beside.

    make bench ARGS="-k gpu_training"

A Llama of SmolLM2-135M's sizes teaches a student of 5/6 of its width and neurons, logits and hidden states, AdamW, by
CompressionTrainer. TEACHER=out/generation/teacher takes that model and DATA=out/generation/data/train its text; else
both are random. Model FLOP utilisation counts the products and attention of the teacher's pass, the student's pass and
its gradients (as torch.utils.flop_counter sees them) over PEAK, 989 TFLOP/s of bfloat16 without sparsity, the data
sheet's figure for an H100 or H200 SXM. Rates are of the steps after the first third, by the host's clock around steps
that the card has finished. COMPILED=1 adds a row with torch.compile. SMOKE=1 runs all of it in short, on the CPU where
there is no card.
"""

import copy
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    TrainerCallback,
    TrainingArguments,
)

from edgefold.distillation import Objective
from edgefold.plans import Plan, Project, Select
from edgefold.student_building import build_student
from edgefold.students import Student
from edgefold.training import CompressionTrainer

SMOKE = bool(os.environ.get("SMOKE"))
PEAK = float(os.environ.get("PEAK", "989")) * 1e12
SHAPES = {(2, 16): 3} if SMOKE else {(16, 128): 30, (32, 512): 18, (32, 1024): 9}
"""Rows and tokens of each, and the steps that are made."""
AGREEMENT = (2, 16, 3) if SMOKE else (4, 64, 12)
"""Rows, tokens and steps of the runs that are compared."""
SIZES: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
SMALL = {"vocab_size": 199, "hidden_size": 36, "intermediate_size": 48, "num_hidden_layers": 2}


def load_teacher() -> Any:
    if "TEACHER" in os.environ:
        return AutoModelForCausalLM.from_pretrained(os.environ["TEACHER"], dtype=torch.float32).eval()
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**SIZES, **(SMALL if SMOKE else {})})).eval()


def load_tokens(count: int, vocabulary: int) -> Tensor:
    """So many tokens of the text, which begins again where it is too short."""
    if "DATA" not in os.environ:
        return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(0))
    tokenizer = AutoTokenizer.from_pretrained(os.environ["TEACHER"])
    text = "\n".join(path.read_text("utf-8") for path in sorted(Path(os.environ["DATA"]).glob("*.txt")))
    ids = torch.tensor(tokenizer(text[: 8 * count])["input_ids"])
    return ids.repeat(-(-count // len(ids)))[:count]


def make_student(teacher: Any, tokens: Tensor) -> Student:
    config = teacher.config
    plan = Plan([Project("hidden", config.hidden_size * 5 // 6), Select("ffn", config.intermediate_size * 5 // 6)])
    batch = {"input_ids": tokens.repeat(-(-512 // len(tokens)))[:512].view(8, 64)}
    return build_student(teacher, plan, batch, [batch], start="pca")


class Steps(TrainerCallback):
    """When the steps were done on the card as well, from the first third on to the last; and their losses."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.losses: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step in (state.max_steps // 3, state.max_steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if "loss" in kwargs["logs"]:
            self.losses.append(float(kwargs["logs"]["loss"]))


def make_trainer(
    student: Student, teacher: Any, tokens: Tensor, shape: tuple[int, int], steps: int, log_every: int = 1, **how: Any
) -> Any:
    rows, length = shape
    blocks = tokens[: rows * length * steps].view(rows * steps, length)
    data = [{"input_ids": block, "labels": block} for block in blocks]
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=steps,
        per_device_train_batch_size=rows,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        logging_steps=log_every,
        accelerator_config={"non_blocking": torch.cuda.is_available()},
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        **how,
    )
    watcher = Steps()
    trainer = CompressionTrainer(
        student,
        teacher=teacher,
        objective=Objective(task=0.0, logits=1.0, hidden=1.0, temperature=1.0),
        args=arguments,
        train_dataset=data,
        callbacks=[watcher],
    )
    return trainer, watcher


def count_flops(trainer: Any, shape: tuple[int, int], tokens: Tensor) -> int:
    """Of one step, all passes of both models."""
    batch = tokens[: shape[0] * shape[1]].view(shape).to(trainer.args.device)
    trainer.model.train()
    with FlopCounterMode(display=False) as counter, trainer.compute_loss_context_manager():
        trainer.compute_loss(trainer.model, {"input_ids": batch, "labels": batch}).backward()
    trainer.model.zero_grad()
    return int(counter.get_total_flops())


def measured_peak() -> float:
    """FLOP/s of one large product in bfloat16."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(20):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (begin.elapsed_time(end) / 1e3)


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not (SMOKE or torch.cuda.is_available()), reason="no CUDA device; SMOKE=1 runs it on the CPU")
def test_gpu_training() -> None:
    teacher = load_teacher()
    vocabulary = teacher.config.vocab_size
    tokens = load_tokens(max(rows * length * steps for (rows, length), steps in SHAPES.items()), vocabulary)
    student = make_student(teacher, tokens)
    sizes = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (teacher, student)]
    print(f"\nteacher {sizes[0]:.1f} M parameters, student {sizes[1]:.1f} M; torch {torch.__version__}")
    if torch.cuda.is_available():
        print(f"{torch.cuda.get_device_name()}; a product of 8192 x 8192: {measured_peak() / 1e12:.0f} TFLOP/s in bf16")
    print("| rows x tokens | precision | ms a step | tokens/s | TFLOP/s | of the peak | GiB |")
    print("|---|---|---|---|---|---|---|")
    half = {"bf16": True} if torch.cuda.is_available() else {"bf16": True, "use_cpu": True}
    rows_of_table: dict[str, dict[str, Any]] = {"fp32": {}, "bf16": half}
    if os.environ.get("COMPILED"):
        rows_of_table["bf16, compiled"] = {**half, "torch_compile": True}
    for shape, steps in SHAPES.items():
        for name, how in rows_of_table.items():
            trainer, watcher = make_trainer(copy.deepcopy(student), teacher, tokens, shape, steps, steps, **how)
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            try:
                flops = count_flops(trainer, shape, tokens)
                trainer.train()
            except torch.OutOfMemoryError:
                print(f"| {shape[0]} x {shape[1]} | {name} | out of memory | | | | |", flush=True)
                continue
            seconds = (watcher.times[1] - watcher.times[0]) / (steps - steps // 3)
            rate = flops / seconds
            memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
            print(
                f"| {shape[0]} x {shape[1]} | {name} | {seconds * 1e3:.1f} | {shape[0] * shape[1] / seconds:,.0f} | "
                f"{rate / 1e12:.1f} | {rate / PEAK:.1%} | {memory:.1f} |",
                flush=True,
            )

    rows, length, steps = AGREEMENT
    runs: dict[str, list[float]] = {}
    kinds: dict[str, dict[str, Any]] = {"CPU fp32": {"use_cpu": True}}
    if torch.cuda.is_available():
        kinds |= {"GPU fp32": {}, "GPU bf16": {"bf16": True}}
    else:
        kinds["CPU bf16"] = {"use_cpu": True, "bf16": True}
    for name, how in kinds.items():
        own = copy.deepcopy(student).cpu()
        trainer, watcher = make_trainer(own, copy.deepcopy(teacher).cpu(), tokens, (rows, length), steps, **how)
        trainer.train()
        runs[name] = watcher.losses
    print(f"losses of {steps} steps of {rows} x {length} tokens:")
    reference = runs["CPU fp32"]
    for name, losses in runs.items():
        off = max(abs(a - b) / abs(b) for a, b in zip(losses, reference, strict=True))
        print(f"{name}: {' '.join(f'{loss:.4g}' for loss in losses)}; off by {off:.2%} at most")
    for losses in runs.values():
        assert max(abs(a - b) / abs(b) for a, b in zip(losses, reference, strict=True)) < 0.05
