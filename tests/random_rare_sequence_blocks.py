"""Rarer blocks of networks over sequences, (B, T, C) -> (B, T, C')."""

import torch
from random_sequence_blocks import Block
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


class TokenMixer(Block):
    """Linear maps over time: an MLP-Mixer's, or a gate of a gMLP."""

    def make(self) -> None:
        self.gates = self.draw.random() < 0.5
        self.along = nn.Linear(6, 6)
        self.up, self.down = nn.Linear(self.width, 2 * self.width), nn.Linear(self.width, self.width)
        self.norm = nn.LayerNorm(self.width)

    def forward(self, x: Tensor) -> Tensor:
        if not self.gates:
            return self.along(self.norm(x).mT).mT
        a, b = F.gelu(self.up(x)).chunk(2, dim=-1)
        return self.down(a * self.along(self.norm(b).transpose(1, 2)).transpose(1, 2))


class Memory(Block):
    """Attention to learned slots, normalised over slots, or over slots and time (external attention)."""

    def make(self) -> None:
        self.keys, self.values = self.parameter(5, self.width), self.parameter(5, self.width)
        self.twice, self.q = self.draw.random() < 0.5, nn.Linear(self.width, self.width)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q(x) @ self.keys.t()
        if self.twice:
            scores = scores.softmax(1)
            scores = scores / (1e-6 + scores.sum(-1, keepdim=True))
        else:
            scores = scores.softmax(-1)
        return scores @ self.values


class Queries(Block):
    """Learned queries read the sequence, and the sequence reads what they found."""

    def make(self) -> None:
        inner = self.width if self.width % 2 == 0 else self.width + 1
        self.queries = self.parameter(4, inner)
        self.enter = nn.Linear(self.width, inner)
        self.read = nn.MultiheadAttention(inner, 2, batch_first=True)
        self.tell = nn.MultiheadAttention(inner, 2, batch_first=True)
        self.out = inner

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        found = self.queries.expand(x.shape[0], -1, -1)
        found = found + self.read(found, x, x)[0]
        return x + self.tell(x, found, found)[0]


class ClassToken(Block):
    """A token that is put before the others and adds itself to them afterwards."""

    def make(self) -> None:
        self.token, self.positions = self.parameter(1, 1, self.width), self.parameter(1, 7, self.width)
        self.q, self.k = nn.Linear(self.width, 8), nn.Linear(self.width, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        x = (self.q(x) @ self.k(x).mT / 8**0.5).softmax(-1) @ x
        return x[:, 1:] + x[:, :1]


class Library(Block):
    """Layers of torch's own transformer."""

    def make(self) -> None:
        self.inner = self.draw.choice([8, 12])
        self.enter = nn.Linear(self.width, self.inner)
        how = {"dim_feedforward": 10, "batch_first": True, "norm_first": self.draw.random() < 0.5}
        self.is_decoder = self.draw.random() < 0.5
        kind = nn.TransformerDecoderLayer if self.is_decoder else nn.TransformerEncoderLayer
        self.layer = kind(self.inner, 2, activation=self.draw.choice(["relu", "gelu"]), **how)  # type: ignore[arg-type]
        self.out = self.inner

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.layer(x, x) if self.is_decoder else self.layer(x)


class Selected(Block):
    """Branches of which a softmax, a maximum or a gate takes its share at each channel."""

    def make(self) -> None:
        self.style = self.draw.choice(["softmax", "maximum", "highway", "maxout"])
        self.a, self.b = nn.Linear(self.width, self.width), nn.Linear(self.width, self.width)
        self.squeeze, self.two = nn.Linear(self.width, 5), nn.Linear(5, 2 * self.width)
        self.three = nn.Linear(self.width, 3 * self.width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.tanh(self.a(x)), self.b(x)
        if self.style == "maximum":
            return torch.maximum(a, b)
        if self.style == "highway":
            gate = torch.sigmoid(b)
            return a * gate + x * (1.0 - gate)
        if self.style == "maxout":
            return self.three(x).view(*x.shape[:2], self.width, 3).max(-1)[0]
        said = self.two(torch.relu(self.squeeze((a + b).mean(1)))).view(-1, 2, self.width).softmax(1)
        both = torch.stack([a, b], dim=1)
        return (both * said.unsqueeze(2)).sum(1)


class Stepwise(Block):
    """A recurrence that is written out step by step."""

    def make(self) -> None:
        self.style = self.draw.choice(["gru cell", "lstm cell", "state space", "average", "two layers", "projected"])
        self.inner = self.draw.choice([6, 8])
        if self.style == "gru cell":
            self.cell: nn.Module = nn.GRUCell(self.width, self.inner)
        if self.style == "lstm cell":
            self.cell = nn.LSTMCell(self.width, self.inner)
        if self.style == "two layers":
            self.cell = nn.GRU(self.width, self.inner, num_layers=2, batch_first=True)
        if self.style == "projected":
            self.cell = nn.LSTM(self.width, self.inner, proj_size=4, batch_first=True)
        self.out = {"state space": self.width, "average": self.width, "projected": 4}.get(self.style, self.inner)
        self.rate, self.skip = self.parameter(self.width, 3), self.parameter(self.width)
        self.step, self.b, self.c = (
            nn.Linear(self.width, self.width),
            nn.Linear(self.width, 3),
            nn.Linear(self.width, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.style in ("two layers", "projected"):
            return self.cell(x)[0]
        found = []
        if self.style.endswith("cell"):
            state = x.new_zeros(x.shape[0], self.inner)
            pair = (state, state)
            for t in range(6):
                if self.style == "gru cell":
                    state = self.cell(x[:, t], state)
                else:
                    pair = self.cell(x[:, t], pair)
                    state = pair[0]
                found.append(state)
            return torch.stack(found, 1)
        if self.style == "average":
            state = torch.zeros_like(x[:, 0])
            keep = torch.sigmoid(self.skip)
            for t in range(6):
                state = keep * state + (1 - keep) * x[:, t]
                found.append(state)
            return torch.stack(found, dim=1)
        step = F.softplus(self.step(x)).unsqueeze(-1)
        decay = torch.exp(-step * self.rate.exp())
        driven = step * self.b(x).unsqueeze(2) * x.unsqueeze(-1)
        held = torch.zeros_like(driven[:, 0])
        for t in range(6):
            held = decay[:, t] * held + driven[:, t]
            found.append((held * self.c(x)[:, t].unsqueeze(1)).sum(-1))
        return torch.stack(found, dim=1) + self.skip * x


class Normed(Block):
    """Weights that are computed from others before they are used."""

    def make(self) -> None:
        self.style = self.draw.choice(["weight norm", "standardized", "product", "masked", "symmetric", "low rank"])
        self.out = self.width if self.style == "symmetric" else self.other()
        linear = nn.Linear(self.width, self.out)
        self.linear = parametrizations.weight_norm(linear) if self.style == "weight norm" else linear
        self.left, self.right = self.parameter(self.out, 3), self.parameter(3, self.width)
        self.register_buffer("mask", torch.rand(self.out, self.width).round())

    def forward(self, x: Tensor) -> Tensor:
        if self.style == "weight norm":
            return self.linear(x)
        weight = self.linear.weight
        if self.style == "standardized":
            weight = (weight - weight.mean(1, keepdim=True)) / (weight.std(1, keepdim=True) + 1e-3)
        if self.style == "product":
            weight = self.left @ self.right
        if self.style == "low rank":
            weight = weight + 0.5 * (self.left @ self.right)
        if self.style == "masked":
            weight = weight * self.mask
        if self.style == "symmetric":
            weight = (weight + weight.t()) / 2
        return F.linear(x, weight, self.linear.bias)


class Distances(Block):
    """To prototypes, or a product of two maps."""

    def make(self) -> None:
        self.style = self.draw.choice(["rbf", "bilinear", "outer", "cosine"])
        self.points = self.parameter(7, self.width)
        self.a, self.b = nn.Linear(self.width, 3), nn.Linear(self.width, 4)
        self.both = nn.Bilinear(self.width, self.width, 7)
        self.out = 12 if self.style == "outer" else 7

    def forward(self, x: Tensor) -> Tensor:
        if self.style == "rbf":
            return torch.exp(-((x.unsqueeze(2) - self.points) ** 2).sum(-1))
        if self.style == "bilinear":
            return self.both(x, x)
        if self.style == "cosine":
            return F.cosine_similarity(x.unsqueeze(2), self.points, dim=-1)
        return torch.einsum("bti,btj->btij", self.a(x), self.b(x)).flatten(2)


class Routed(Block):
    """Each token to its best experts."""

    def make(self) -> None:
        self.gate = nn.Linear(self.width, 4, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(self.width, 6), nn.ReLU(), nn.Linear(6, self.width)) for _ in range(4)
        )
        self.style = self.draw.choice(["weights", "scatter"])

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x).softmax(-1)
        best, place = scores.topk(2, dim=-1)
        best = best / best.sum(-1, keepdim=True)
        if self.style == "scatter":
            shares = torch.zeros_like(scores).scatter(-1, place, best)
        else:
            shares = (F.one_hot(place, 4).to(x.dtype) * best.unsqueeze(-1)).sum(-2)
        y = torch.stack([expert(x) for expert in self.experts], dim=2)
        return torch.einsum("bte,btec->btc", shares, y)


class Neighbours(Block):
    """Messages between places: by index, by windows, by merging and spreading."""

    def make(self) -> None:
        self.style = self.draw.choice(["index", "add", "windows", "merge", "stride"])
        self.linear, self.two = nn.Linear(self.width, self.width), nn.Linear(2 * self.width, self.width)
        self.down = nn.Conv1d(self.width, self.width, 2, stride=2)
        self.up = nn.ConvTranspose1d(self.width, self.width, 2, stride=2)
        self.register_buffer("source", torch.tensor([0, 2, 4, 1, 3, 5, 0]))
        self.register_buffer("target", torch.tensor([1, 1, 2, 3, 0, 4, 5]))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        if self.style == "index":
            return self.two(torch.cat([x, x[:, self.target[:6]]], -1))
        if self.style == "add":
            sent = torch.relu(self.linear(x))[:, self.source]
            return torch.zeros_like(x).index_add(1, self.target, sent)
        if self.style == "windows":
            w = x.view(b, t // 3, 3, c)
            w = (self.linear(w) @ w.mT).softmax(-1) @ w
            return w.reshape(b, t, c)
        if self.style == "merge":
            return self.two(torch.cat([x[:, 0::2], x[:, 1::2]], -1)).repeat_interleave(2, dim=1)
        return self.up(torch.relu(self.down(x.mT))).mT


BLOCKS: list[type[Block]] = [
    TokenMixer,
    Memory,
    Queries,
    ClassToken,
    Library,
    Selected,
    Stepwise,
    Stepwise,
    Normed,
    Distances,
    Routed,
    Neighbours,
]
