"""Whitened against plain truncation at equal rank, before any training: MiniLM-L6 and SmolLM2-135M.

LowRank cuts the SVD of W S, S S^T = E[x x^T], the plain rival the SVD of W. Layer by layer: the relative error
|W x - B A x| / |W x| on held-out inputs of the teacher, the median over the layers of each kind of matrix. End to
end: fidelity (Spearman's correlation of all pairwise similarities) of a sentence embedder, and perplexity of a language
model on held-out text. `make bench ARGS="-k low_rank"`; TOKENS=16384 for longer calibration of the language model.
"""

import copy
import os
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

import torch
from language import load_smollm2, perplexity, token_batches
from sentence_embedding import HELD_OUT, batches, embed, fidelity, load_embedder, load_tokenizer, texts
from torch import Tensor, nn

from edgefold.calibration import Moments
from edgefold.projections import whitened_factors

TOKENS, HELD_OUT_TOKENS = (int(os.environ.get(name, "8192")) for name in ("TOKENS", "HELD_OUT_TOKENS"))
SHARES = (0.75, 0.5)
"""Of the parameters of the dense matrices."""
Batches = list[dict[str, Tensor]]
Factors = dict[str, tuple[Tensor, Tensor]]
"""Path -> (out, r) and (r, in) with r full: the first columns and rows are the factors of any rank."""
Products = dict[str, Tensor]


def inputs_of(model: nn.Module, paths: list[str], data: Batches, see: Callable[[str, Tensor], None]) -> None:
    """Show the unmasked inputs (n, in) of each of these layers, batch by batch."""
    mask: dict[str, Tensor] = {}

    def hook(path: str) -> Any:
        return lambda _module, args, _output: see(path, args[0][mask["of"]])

    handles = [model.get_submodule(path).register_forward_hook(hook(path)) for path in paths]
    with torch.no_grad():
        for batch in data:
            mask["of"] = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
            model(**batch)
    for handle in handles:
        handle.remove()


def moments_of(model: nn.Module, paths: list[str], data: Batches) -> dict[str, Moments]:
    moments = {path: Moments(model.get_submodule(path).in_features) for path in paths}  # type: ignore[arg-type]
    inputs_of(model, paths, data, lambda path, rows: moments[path].add(rows))
    return moments


def decompose(model: nn.Module, moments: Mapping[str, Moments]) -> tuple[Factors, Factors]:
    """Whitened and plain."""
    whitened, plain = {}, {}
    for path, moment in moments.items():
        weight: Tensor = model.get_submodule(path).weight.detach().double()  # type: ignore[union-attr, operator]
        left, right = whitened_factors(weight, moment.uncentred, min(weight.shape))
        u, sigma, vt = torch.linalg.svd(weight, full_matrices=False)
        whitened[path] = left.float(), right.float()
        plain[path] = (u * sigma).float(), vt.float()
    return whitened, plain


def cut(factors: Factors, share: float) -> Products:
    products = {}
    for path, (left, right) in factors.items():
        rank = int(share * len(left) * right.shape[1] / (len(left) + right.shape[1]))
        products[path] = left[:, :rank] @ right[:rank]
    return products


def print_layer_errors(model: nn.Module, whitened: Products, plain: Products, data: Batches, share: float) -> None:
    errors: dict[str, list[Tensor]] = {path: [] for path in plain}

    def see(path: str, rows: Tensor) -> None:
        weight = model.get_submodule(path).weight
        squares = [(rows @ w.T).square().sum() for w in (weight, weight - whitened[path], weight - plain[path])]
        errors[path].append(torch.stack(squares))  # type: ignore[arg-type]

    inputs_of(model, list(plain), data, see)
    kinds: dict[str, list[tuple[float, float]]] = {}
    for path, found in errors.items():
        exact, *missed = torch.stack(found).sum(0).tolist()
        kind = ".".join(part for part in path.split(".")[-3:] if not part.isdigit())
        kinds.setdefault(kind, []).append(((missed[0] / exact) ** 0.5, (missed[1] / exact) ** 0.5))
    for kind, pairs in kinds.items():
        first, second = (median(side) for side in zip(*pairs, strict=True))
        better = f"better in {sum(a < b for a, b in pairs)} of {len(pairs)}"
        print(f"\n  {share:.0%} {kind:28} whitened {first:.3f}  plain {second:.3f}  {better}", end="")


def replaced(model: nn.Module, products: Products) -> nn.Module:
    copied = copy.deepcopy(model)
    for path, weight in products.items():
        copied.get_submodule(path).weight.data = weight
    return copied


def linear_paths(model: nn.Module, within: str) -> list[str]:
    return [path for path, module in model.named_modules() if within in path and isinstance(module, nn.Linear)]


def compare(
    model: nn.Module, paths: list[str], calibration: Batches, held_out: Batches, figure: Callable[[nn.Module], float]
) -> Iterator[tuple[float, float]]:
    """Print both tables; the figures of whitened and plain for each share."""
    factors = decompose(model, moments_of(model, paths, calibration))
    for share in SHARES:
        products = [cut(side, share) for side in factors]
        print_layer_errors(model, *products, held_out[:2], share)
        whitened, plain = (figure(replaced(model, side)) for side in products)
        print(f"\n{share:.0%} of the parameters: whitened {whitened:.3f}, plain {plain:.3f}", end="")
        yield whitened, plain


def test_low_rank_of_a_sentence_embedder() -> None:
    tokenizer, teacher = load_tokenizer(), load_embedder()
    every = texts()
    held_out, calibration = batches(tokenizer, every[:HELD_OUT]), batches(tokenizer, every[HELD_OUT:][:600])
    wanted = embed(teacher, held_out)

    def closeness(student: nn.Module) -> float:
        return fidelity(wanted, embed(student, held_out))

    print("\nMiniLM-L6, 600 texts, fidelity", end="")
    for whitened, plain in compare(teacher, linear_paths(teacher, "layer."), calibration, held_out, closeness):
        assert whitened > plain


def test_low_rank_of_a_language_model() -> None:
    torch.set_num_threads(1)
    teacher, held_out = load_smollm2(), token_batches(HELD_OUT_TOKENS, held_out=True)
    before = perplexity(teacher, held_out)
    print(f"\nSmolLM2-135M, {TOKENS} tokens, perplexity of {HELD_OUT_TOKENS} others, teacher {before:.2f}", end="")
    paths = linear_paths(teacher, "layers.")
    for whitened, plain in compare(teacher, paths, token_batches(TOKENS), held_out, lambda m: perplexity(m, held_out)):
        assert whitened < plain
