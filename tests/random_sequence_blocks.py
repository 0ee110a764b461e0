"""Blocks that networks over sequences are drawn from, (B, T, C) -> (B, T, C'): the idioms people write them in."""

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: list[Callable[[Tensor], Tensor]] = [
    F.relu,
    F.gelu,
    F.silu,
    torch.tanh,
    torch.sigmoid,
    F.softplus,
    F.elu,
    torch.sin,
    lambda x: x * torch.sigmoid(1.702 * x),
    lambda x: torch.relu(x) ** 2,
    lambda x: torch.where(x > 0, x, 0.1 * x),
    lambda x: x.clamp(-1, 1),
]


class Block(nn.Module):
    """Draws its own sizes and idiom; `out` is its number of output channels."""

    def __init__(self, draw: Random, width: int) -> None:
        super().__init__()
        self.draw, self.width, self.out = draw, width, width
        self.make()
        del self.draw

    def make(self) -> None: ...

    def other(self) -> int:
        return self.draw.choice([6, 8, 10, 12, 18])

    def parameter(self, *shape: int, scale: float = 0.3) -> nn.Parameter:
        return nn.Parameter(1 + scale * torch.randn(*shape) if len(shape) == 1 else scale * torch.randn(*shape))


class Dense(Block):
    def make(self) -> None:
        self.out = self.other()
        self.linear = nn.Linear(self.width, self.out, bias=self.draw.random() < 0.7)
        self.act = self.draw.choice([*ACTIVATIONS, None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return x if self.act is None else self.act(x)


class Raw(Block):
    """Parameters without a layer, in one of several products."""

    def make(self) -> None:
        self.out = self.other()
        self.style = self.draw.choice(["@", "einsum", "linear", "matmul", "tensordot", "transposed", "broadcast"])
        self.w = self.parameter(self.width, self.out)
        self.v = self.parameter(self.out, self.width)
        self.b = self.parameter(self.out)

    def forward(self, x: Tensor) -> Tensor:
        if self.style == "@":
            return x @ self.w + self.b
        if self.style == "einsum":
            return torch.einsum("btc,cd->btd", x, self.w) * self.b
        if self.style == "linear":
            return F.linear(x, self.v, self.b)
        if self.style == "matmul":
            return torch.matmul(x, self.v.transpose(0, 1))
        if self.style == "tensordot":
            return torch.tensordot(x, self.w, dims=([2], [0]))
        if self.style == "transposed":
            return (self.v @ x.transpose(1, 2)).transpose(1, 2)
        return (x.unsqueeze(-1) * self.w).sum(-2)


class Affine(Block):
    """Scales, shifts and mixtures along the channels."""

    def make(self) -> None:
        self.style = self.draw.choice(["scale", "shift", "both", "mix", "lerp", "decay", "power"])
        self.a, self.b = self.parameter(self.width), self.parameter(self.width)

    def forward(self, x: Tensor) -> Tensor:
        before = F.pad(x, (0, 0, 1, 0))[:, :-1]
        if self.style == "scale":
            return x * self.a
        if self.style == "shift":
            return x + self.b
        if self.style == "both":
            return torch.addcmul(self.b, x, self.a)
        if self.style == "mix":
            return x * self.a + before * (1 - self.a)
        if self.style == "lerp":
            return torch.lerp(x, before, torch.sigmoid(self.a))
        if self.style == "decay":
            return x * torch.exp(-F.softplus(self.a))
        return x.abs().clamp_min(0.1) ** self.a.abs()


class Norm(Block):
    def make(self) -> None:
        styles = ["layer", "rms", "own rms", "own layer", "batch", "group", "unit", "bare", "inverse", "scale norm"]
        self.style = self.draw.choice(styles)
        self.weight, self.bias = self.parameter(self.width), self.parameter(self.width)
        self.groups = next(n for n in (3, 2, 1) if self.width % n == 0)
        self.norm: nn.Module = nn.Identity()
        if self.style == "layer":
            self.norm = nn.LayerNorm(self.width)
        if self.style == "rms":
            self.norm = nn.RMSNorm(self.width)
        if self.style == "batch":
            self.norm = nn.BatchNorm1d(self.width)
        if self.style == "group":
            self.norm = nn.GroupNorm(self.groups, self.width)

    def forward(self, x: Tensor) -> Tensor:
        if self.style in ("layer", "rms"):
            return self.norm(x)
        if self.style in ("batch", "group"):
            return self.norm(x.transpose(1, 2)).transpose(1, 2)
        if self.style == "own rms":
            return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))
        if self.style == "own layer":
            centred = x - x.mean(-1, keepdim=True)
            return self.weight * centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() + self.bias
        if self.style == "unit":
            return F.normalize(x, dim=-1) * self.weight
        if self.style == "bare":
            return F.layer_norm(x, (self.width,))
        if self.style == "inverse":
            return x * self.weight / (x.norm(dim=-1, keepdim=True) + 1e-3)
        return x * self.weight[0] / torch.sqrt((x * x).sum(-1, keepdim=True) + 1e-3)


class FeedForward(Block):
    def make(self) -> None:
        inner = self.draw.choice([8, 10, 14, 20])
        self.style = self.draw.choice(["plain", "chunk", "glu", "two", "split", "tied", "literal", "deep"])
        self.act = self.draw.choice(ACTIVATIONS)
        self.up, self.down = nn.Linear(self.width, inner), nn.Linear(inner, self.width)
        self.inner = inner
        if self.style in ("chunk", "glu", "split", "literal"):
            self.up = nn.Linear(self.width, 2 * inner, bias=self.draw.random() < 0.5)
        if self.style in ("two", "deep"):
            self.gate = nn.Linear(self.width if self.style == "two" else inner, inner)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x)
        if self.style == "chunk":
            a, b = h.chunk(2, -1)
            h = self.act(a) * b
        elif self.style == "glu":
            h = F.glu(h, -1)
        elif self.style == "split":
            b, a = h.split([self.inner, self.inner], dim=-1)
            h = a * self.act(b)
        elif self.style == "literal":
            h = self.act(h[..., : h.shape[-1] // 2]) * h[..., h.shape[-1] // 2 :]
        elif self.style == "two":
            h = self.act(self.gate(x)) * h
        elif self.style == "deep":
            h = self.act(self.gate(self.act(h)))
        elif self.style == "tied":
            return F.linear(self.act(h), self.up.weight.t(), self.down.bias)
        else:
            h = self.act(h)
        return self.down(h)


class Attention(Block):
    def make(self) -> None:
        draw = self.draw
        self.heads, self.size = draw.choice([2, 3, 4]), draw.choice([4, 6])
        self.groups = draw.choice([self.heads, self.heads, 1])
        self.style = draw.choice(["separate", "fused chunk", "fused five", "einsum", "module", "linear", "cosine"])
        self.mask = draw.choice(["none", "causal", "alibi"])
        self.rotary, self.gated = draw.random() < 0.3, draw.random() < 0.3
        inner = self.heads * self.size
        if self.style == "module":
            self.inner = inner
            self.enter = nn.Linear(self.width, inner) if self.width != inner else nn.Identity()
            self.attention = nn.MultiheadAttention(inner, self.heads, batch_first=True)
        elif self.style.startswith("fused"):
            self.groups = self.heads
            self.qkv = nn.Linear(self.width, 3 * inner)
        else:
            self.q = nn.Linear(self.width, inner)
            self.k, self.v = (nn.Linear(self.width, self.groups * self.size) for _ in range(2))
        self.norm = nn.RMSNorm(self.size) if draw.random() < 0.3 else nn.Identity()
        self.gate = nn.Linear(self.width, inner)
        self.slope = self.parameter(self.heads)
        self.o = nn.Linear(inner, self.width, bias=draw.random() < 0.5)

    def _turn(self, x: Tensor) -> Tensor:
        """Rotary positions over (B, H, T, D)."""
        half = x.shape[-1] // 2
        rate = torch.arange(half, dtype=x.dtype) * -0.5
        angle = torch.arange(x.shape[2], dtype=x.dtype)[:, None] * rate.exp()
        a, b = x[..., :half], x[..., half:]
        turned = torch.cat([-b, a], -1)
        both = torch.cat([angle, angle], -1)
        return x * both.cos() + turned * both.sin()

    def _bias(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1])
        far = (place[:, None] - place[None]).abs().to(x.dtype)
        if self.mask == "alibi":
            return -self.slope.abs()[:, None, None] * far
        later = place[None] > place[:, None]
        return torch.zeros_like(far).masked_fill(later, -1e4) if self.mask == "causal" else torch.zeros_like(far)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        if self.style == "module":
            h = self.enter(x)
            return self.o(self.attention(h, h, h, need_weights=False)[0])
        if self.style == "fused chunk":
            q, k, v = (part.view(b, t, self.heads, self.size).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        elif self.style == "fused five":
            q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q = self.q(x).view(b, t, self.heads, self.size).transpose(1, 2)
            k, v = (m(x).view(b, t, self.groups, self.size).transpose(1, 2) for m in (self.k, self.v))
        q, k = self.norm(q), self.norm(k)
        if self.rotary:
            q, k = self._turn(q), self._turn(k)
        if self.groups != self.heads:
            k, v = (each.expand(-1, self.heads, -1, -1) for each in (k, v))
        h = self._mix(x, q, k, v).transpose(1, 2).reshape(b, t, self.heads * self.size)
        if self.gated:
            h = h * torch.sigmoid(self.gate(x))
        return self.o(h)

    def _mix(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.style == "einsum":
            scores = torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(self.size)
            return torch.einsum("bhts,bhsd->bhtd", (scores + self._bias(x)).softmax(-1), v)
        if self.style == "linear":
            q, k = F.elu(q) + 1, F.elu(k) + 1
            return q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(-2, keepdim=True).transpose(-2, -1))
        if self.style == "cosine":
            scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
            return (scores * self.slope[:, None, None] + self._bias(x)).softmax(-1) @ v
        if self.style == "separate":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=self._bias(x))
        return ((q @ k.transpose(-2, -1)) * self.size**-0.5 + self._bias(x)).softmax(-1) @ v


class TimeConvolution(Block):
    def make(self) -> None:
        self.style = self.draw.choice(["full", "depthwise", "grouped", "separable", "gated", "causal"])
        self.act = self.draw.choice(ACTIVATIONS)
        width = self.width
        if self.style in ("full", "separable", "causal"):
            self.out = self.other()
        padding = 0 if self.style == "causal" else 1
        groups = {"depthwise": width, "separable": width, "grouped": 2}.get(self.style, 1)
        out = {"gated": 2 * width, "separable": width}.get(self.style, self.out)
        self.conv = nn.Conv1d(width, out, 3, padding=padding, groups=groups)
        self.point = nn.Conv1d(width, self.out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        x = self.conv(F.pad(x, (2, 0)) if self.style == "causal" else x)
        if self.style == "gated":
            x = self.point(F.glu(x, 1))
        if self.style == "separable":
            x = self.point(self.act(x))
        return x.transpose(1, 2)


class Recurrent(Block):
    def make(self) -> None:
        inner, both = self.draw.choice([6, 10]), self.draw.random() < 0.4
        kind = self.draw.choice([nn.LSTM, nn.GRU])
        self.rnn = kind(self.width, inner, batch_first=True, bidirectional=both)
        self.out = 2 * inner if both else inner

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class Experts(Block):
    """A soft mixture: all experts, weighed by a softmax."""

    def make(self) -> None:
        self.gate = nn.Linear(self.width, 3)
        self.up, self.down = self.parameter(3, self.width, 8), self.parameter(3, 8, self.width)
        self.act = self.draw.choice(ACTIVATIONS)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(torch.einsum("btc,ecf->btef", x, self.up))
        y = torch.einsum("btef,efc->btec", h, self.down)
        return (self.gate(x).softmax(-1).unsqueeze(-1) * y).sum(-2)


class Excite(Block):
    """Channels weighed by what their mean over time says."""

    def make(self) -> None:
        self.squeeze, self.expand = nn.Linear(self.width, 6), nn.Linear(6, 2 * self.width)
        self.films = self.draw.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        said = self.expand(torch.relu(self.squeeze(x.mean(1, keepdim=True))))
        scale, shift = said.chunk(2, -1)
        return x * (1 + scale) + shift if self.films else x * torch.sigmoid(scale)


class Shapes(Block):
    """What moves channels about without a parameter."""

    def make(self) -> None:
        styles = ["swap", "flip", "roll", "fold mean", "slice", "stack", "shuffle", "repeat", "pool", "cumsum", "max"]
        self.style = self.draw.choice([*styles, "interleave", "outer", "sort"])
        if self.style in ("fold mean", "slice", "pool", "max"):
            self.out = self.width // 2
        if self.style in ("repeat", "interleave"):
            self.out = 2 * self.width
        if self.style == "outer":
            self.out = 3 * self.width
            self.three = nn.Linear(self.width, 3)

    def forward(self, x: Tensor) -> Tensor:
        half = self.width // 2
        b, t, c = x.shape
        if self.style == "swap":
            return torch.cat([x[..., half:], x[..., :half]], -1)
        if self.style == "flip":
            return x.flip(-1)
        if self.style == "roll":
            return x.roll(1, -1)
        if self.style == "fold mean":
            return x.reshape(b, t, 2, half).mean(2)
        if self.style == "max":
            return x.view(b, t, half, 2).amax(-1)
        if self.style == "slice":
            return x[..., :half]
        if self.style == "stack":
            return torch.stack([x, x.tanh()], -1).sum(-1)
        if self.style == "shuffle":
            return x.view(b, t, 2, half).transpose(2, 3).reshape(b, t, c)
        if self.style == "repeat":
            return x.repeat(1, 1, 2)
        if self.style == "interleave":
            return x.repeat_interleave(2, dim=-1)
        if self.style == "pool":
            return F.avg_pool1d(x, 2)
        if self.style == "cumsum":
            return x.cumsum(1)
        if self.style == "outer":
            return (self.three(x).unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)
        return x.sort(-1).values


BLOCKS: list[type[Block]] = [
    Dense,
    Raw,
    Affine,
    Norm,
    FeedForward,
    FeedForward,
    Attention,
    Attention,
    TimeConvolution,
    Recurrent,
    Experts,
    Excite,
    Shapes,
]
