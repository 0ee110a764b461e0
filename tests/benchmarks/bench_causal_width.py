"""SmolLM2-135M at three quarters of its width: perplexity before any training by four starts, and after a while of it.

Hidden size 576 -> 432, heads and neurons as they are, every arm of the same total size. The head has its own matrix: a
tied one cannot take a norm's scale, which the rotation needs (TIED=1 ties it and gives the rotation the best diagonal
instead). The rivals: a rotation as in SliceGPT (Ashkboos et al., 2024), one for the whole stream, so without matrices
on the residual connections: RMSNorm commutes with an orthogonal Q, so every norm's scale goes into its readers and the
stream is cut to the leading eigenvectors of the normalised second moments; and the coordinates with the largest
weights.

`make bench ARGS="-k causal"`. TOKENS: of calibration. SECONDS: processor seconds of distillation of the
sequential start, one thread, none by default.
"""

import copy
import os
import time
from typing import Any

import pytest
import torch
from language import load_smollm2, perplexity, token_batches
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from edgefold.distillation import Objective
from edgefold.plans import Plan, Project
from edgefold.student_building import build_student
from edgefold.training import CompressionTrainer

HIDDEN = 432
TOKENS, HELD_OUT_TOKENS = (int(os.environ.get(name, "8192")) for name in ("TOKENS", "HELD_OUT_TOKENS"))
SECONDS = float(os.environ.get("SECONDS", "0"))
TIED = bool(os.environ.get("TIED"))
READERS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
WRITERS = ("self_attn.o_proj", "mlp.down_proj")
Batches = list[dict[str, Tensor]]


def without_scales(teacher: Any) -> Any:
    """The same function, every norm's scale in the products that read it: a tied head cannot take its own."""
    model = copy.deepcopy(teacher)
    with torch.no_grad():
        for layer in model.model.layers:
            for norm, readers in READERS.items():
                for reader in readers:
                    layer.get_submodule(reader).weight.mul_(layer.get_submodule(norm).weight)
                layer.get_submodule(norm).weight.fill_(1)
        if not TIED:
            model.lm_head.weight.mul_(model.model.norm.weight)
            model.model.norm.weight.fill_(1)
    return model


def rotated(model: Any, directions: Tensor) -> Any:
    """The stream x -> x Q, Q: (d, p); in d dimensions |x|^2 / d was the mean square, so the small norms scale by
    sqrt(d / p)."""
    (size, kept), q = directions.shape, directions.float()
    config = copy.deepcopy(model.config)
    config.hidden_size = kept
    small = type(model)(config).eval()
    with torch.no_grad():
        small.model.embed_tokens.weight.copy_(model.model.embed_tokens.weight @ q)
        if not TIED:
            small.lm_head.weight.copy_(model.lm_head.weight @ q)
        for layer, narrow in zip(model.model.layers, small.model.layers, strict=True):
            for reader in (name for names in READERS.values() for name in names):
                narrow.get_submodule(reader).weight.copy_(layer.get_submodule(reader).weight @ q)
            for writer in WRITERS:
                narrow.get_submodule(writer).weight.copy_(q.T @ layer.get_submodule(writer).weight)
            for norm in READERS:
                narrow.get_submodule(norm).weight.fill_((size / kept) ** 0.5)
        scales = (q * q * model.model.norm.weight[:, None]).sum(0)  # the diagonal of Q^T diag(scale) Q
        small.model.norm.weight.copy_(scales * (size / kept) ** 0.5)
    return small


def stream_directions(model: Any, batches: Batches) -> Tensor:
    """Q: (d, p), of all that the norms give, scales left out."""
    moments = torch.zeros(model.config.hidden_size, model.config.hidden_size, dtype=torch.float64)

    def add(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        x = inputs[0].flatten(0, 1)
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + model.config.rms_norm_eps)
        moments.add_((x.T @ x).double())

    norms = [module for name, module in model.named_modules() if name.endswith("norm")]
    handles = [norm.register_forward_hook(add) for norm in norms]
    with torch.no_grad():
        for batch in batches:
            model.model(**batch)
    for handle in handles:
        handle.remove()
    return torch.linalg.eigh(moments).eigenvectors.flip(1)[:, :HIDDEN]


def largest_coordinates(model: Any) -> Tensor:
    """The same as columns of the identity: where the weights (norms' scales in them) have the most energy."""
    energy = torch.zeros(model.config.hidden_size)
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            energy += weight.detach().square().sum(1 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0)
    return torch.eye(len(energy), dtype=torch.float64)[:, energy.topk(HIDDEN).indices.sort().values]


class _UntilSpent(TrainerCallback):  # type: ignore[misc]
    """Stops the training when its processor time is up."""

    def __init__(self) -> None:
        self.begun = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = time.process_time() - self.begun > SECONDS


def distil(student: nn.Module, teacher: nn.Module, tokens: int) -> int:
    """Train in place for SECONDS of processor time; returns the steps taken."""
    rows = [row for batch in token_batches(tokens) for row in batch["input_ids"]]
    trainer = CompressionTrainer(
        student,
        teacher=teacher,
        objective=Objective(task=0.0, logits=1.0, hidden=1.0, temperature=1.0),
        args=TrainingArguments(
            "unused",
            per_device_train_batch_size=4,
            learning_rate=2e-4,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=5,
            max_grad_norm=1.0,
            num_train_epochs=1,
            save_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=[{"input_ids": row} for row in rows],
        callbacks=[_UntilSpent()],
    )
    trainer.train()
    return int(trainer.state.global_step)


def size_of(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.slow
def test_three_quarters_of_the_width_of_a_language_model() -> None:
    torch.set_num_threads(1)
    teacher = load_smollm2(tied=TIED).requires_grad_(False)
    calibration, held_out = token_batches(TOKENS), token_batches(HELD_OUT_TOKENS, held_out=True)
    print(f"\n{TOKENS} tokens, {'tied' if TIED else 'own'} head; perplexity of {HELD_OUT_TOKENS} others")
    print(f"teacher {size_of(teacher):,}: {perplexity(teacher, held_out):.2f}")
    plain = without_scales(teacher)
    found = {
        "rotation": rotated(plain, stream_directions(teacher, calibration)),
        "largest weights": rotated(plain, largest_coordinates(plain)),
    }
    for start in ("pca", "sequential"):
        begun = time.process_time()
        plan = Plan([Project("hidden", HIDDEN)])
        found[start] = build_student(teacher, plan, calibration[0], calibration, start=start)
        print(f"{start}: {time.process_time() - begun:.0f} processor seconds")
    perplexities = {name: perplexity(model, held_out) for name, model in found.items()}
    for name, value in perplexities.items():
        print(f"{name:16} {size_of(getattr(found[name], 'module', found[name])):,}: {value:.2f}")
    if SECONDS:
        steps = distil(found["sequential"], teacher, tokens=2**18)
        after = perplexity(found["sequential"].eval(), held_out)
        print(f"sequential, after {SECONDS:.0f} processor seconds ({steps} steps of 1024 tokens): {after:.2f}")
        assert after < perplexities["sequential"]
    assert perplexities["sequential"] <= perplexities["rotation"]
