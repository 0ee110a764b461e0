"""Networks drawn by a seed: blocks of many idioms, joined by sums, gates, concatenations and skips, then a head."""

from random import Random

import torch
from random_image_blocks import BLOCKS as IMAGE_BLOCKS
from random_rare_image_blocks import BLOCKS as RARE_IMAGE_BLOCKS
from random_rare_sequence_blocks import BLOCKS as RARE_SEQUENCE_BLOCKS
from random_sequence_blocks import BLOCKS as SEQUENCE_BLOCKS
from random_sequence_blocks import Block
from torch import Tensor, nn

ROWS, LENGTH, SIDE, VOCABULARY = 3, 6, 4, 23


class Joined(nn.Module):
    """A block, and how its output meets what went in and what was kept from before."""

    def __init__(self, draw: Random, blocks: list[type[Block]], width: int, kept: int, axis: int) -> None:
        super().__init__()
        self.axis = axis
        self.how = draw.choice(["replace", "residual", "residual", "scaled", "gate", "concatenate", "average"])
        self.block = draw.choice(blocks)(draw, width)
        out = self.block.out
        self.skips = kept > 0 and draw.random() < 0.3
        if self.how == "gate":
            self.gate = self._map(width, out)
        elif self.how in ("residual", "scaled", "average"):
            self.back = nn.Identity() if out == width else self._map(out, width)
            self.scale = nn.Parameter(torch.tensor(0.7))
            out = width
        elif self.how == "concatenate":
            out += width
        self.out = out + (kept if self.skips else 0)

    def _map(self, width: int, out: int) -> nn.Module:
        return nn.Linear(width, out) if self.axis == -1 else nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        y = self.block(x)
        if self.how == "residual":
            y = x + self.back(y)
        elif self.how == "scaled":
            y = x + self.scale * self.back(y)
        elif self.how == "average":
            y = (x + self.back(y)) / 2
        elif self.how == "gate":
            y = y * torch.sigmoid(self.gate(x))
        elif self.how == "concatenate":
            y = torch.cat([x, y], self.axis)
        return torch.cat([y, kept], self.axis) if self.skips else y


class Network(nn.Module):
    """Drawn by `seed`; `inputs` are examples of what it reads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = Random(seed)
        self.seed = seed
        self.reads = draw.choice(["tokens", "numbers", "image", "image"])
        self.axis = 1 if self.reads == "image" else -1
        width = draw.choice([6, 8, 12, 16])
        self.first_width = width
        if self.reads == "tokens":
            self.stem: nn.Module = nn.Embedding(VOCABULARY, width)
            self.positions = nn.Embedding(16, width)
        elif self.reads == "numbers":
            self.stem = nn.Linear(5, width)
        else:
            self.stem = nn.Conv2d(3, width, 3, padding=1)
        blocks = (
            IMAGE_BLOCKS + 2 * RARE_IMAGE_BLOCKS if self.reads == "image" else SEQUENCE_BLOCKS + RARE_SEQUENCE_BLOCKS
        )
        layers, kept = [], 0
        for _ in range(draw.choice([1, 2, 3, 4])):
            layers.append(Joined(draw, blocks, width, kept, self.axis))
            kept, width = width, layers[-1].out
            if width % 2:
                layers.append(Joined(draw, blocks[:1], width, 0, self.axis))
                kept, width = width, layers[-1].out
        self.layers = nn.ModuleList(layers)
        heads = ["mean", "max", "each", "first"]
        self.ends = draw.choice(
            [*heads, "flatten"] if self.reads == "image" else [*heads, "tied"] if self.reads == "tokens" else heads
        )
        if self.ends == "tied":
            self.last = nn.Linear(width, self.first_width)
        else:
            places = SIDE * SIDE if self.ends == "flatten" else 1
            self.head = nn.Linear(width * places, draw.choice([1, 2, 3]))

    def examples(self, rows: int = ROWS, seed: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        if self.reads == "tokens":
            return {"x": torch.randint(0, VOCABULARY, (rows, LENGTH), generator=generator)}
        shape = (rows, LENGTH, 5) if self.reads == "numbers" else (rows, 3, SIDE, SIDE)
        return {"x": torch.randn(shape, generator=generator, dtype=torch.float64)}

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        if self.reads == "tokens":
            h = h + self.positions(torch.arange(x.shape[1], device=x.device))
        kept = h
        for layer in self.layers:
            kept, h = h, layer(h, kept)
        if self.ends == "tied":
            return torch.nn.functional.linear(self.last(h), self.stem.weight)
        if self.ends == "flatten":
            return self.head(h.flatten(1))
        if self.ends == "each":
            return self.head(h.movedim(1, -1) if self.axis == 1 else h)
        inner = (2, 3) if self.axis == 1 else (1,)
        if self.ends == "first":
            return self.head(h[:, :, 0, 0] if self.axis == 1 else h[:, 0])
        return self.head(h.mean(inner) if self.ends == "mean" else h.amax(inner))

    def __str__(self) -> str:
        said = [
            f"{layer.how}{' + kept' if layer.skips else ''}({type(layer.block).__name__} "
            f"{getattr(layer.block, 'style', '')} {layer.block.width}->{layer.block.out})"
            for layer in self.layers
        ]
        return f"{self.seed}: {self.reads} {self.first_width}, {', '.join(said)}, {self.ends}"


def network(seed: int) -> Network:
    """In float64 and in evaluation mode, its batch norms having seen something."""
    torch.manual_seed(seed)
    made = Network(seed).double()
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return made.eval()
