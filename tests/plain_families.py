"""Modules of torch alone, tiny and random, with their inputs: no configuration says their sizes."""

import torch
from torch import Tensor, nn

Case = tuple[nn.Module, dict[str, Tensor]]


def token_ids(rows: int = 3, length: int = 7, vocabulary: int = 96) -> Tensor:
    return torch.randint(5, vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))


class Bottleneck(nn.Module):
    """A residual perceptron with a narrow linear middle."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 20)
        self.down, self.up = nn.Linear(20, 12), nn.Linear(12, 20)
        self.wide, self.back = nn.Linear(20, 32), nn.Linear(32, 20)
        self.out = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        h = h + self.up(self.down(h))
        h = h + self.back(torch.relu(self.wide(h)))
        return self.out(h)


def perceptron() -> Case:
    return Bottleneck(), {"x": torch.randn(5, 6, generator=torch.Generator().manual_seed(0))}


class UNet(nn.Module):
    """Two scales with skip connections, group norms, a strided and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.grouped = nn.Conv2d(16, 12, 1, groups=4)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.merge = nn.Conv2d(14, 10, 3, padding=1)
        self.leave = nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = torch.relu(self.norm(self.enter(x)))
        low = torch.relu(self.grouped(torch.relu(self.depthwise(self.down(skip)))))
        high = torch.cat([skip, self.up(low)], 1)
        return self.leave(nn.functional.interpolate(torch.relu(self.merge(high)), scale_factor=2))


def unet() -> Case:
    return UNet(), {"x": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))}


class Recommender(nn.Module):
    """Several tables of different widths, joined with numbers, and a dot product of two towers."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item, self.shop = nn.Embedding(50, 16), nn.Embedding(40, 12), nn.Embedding(9, 4)
        self.tower = nn.Linear(16, 12)
        self.first, self.second, self.out = nn.Linear(12 + 4 + 5 + 1, 24), nn.Linear(24, 12), nn.Linear(12, 1)

    def forward(self, user: Tensor, item: Tensor, shop: Tensor, numbers: Tensor) -> Tensor:
        u, i = self.tower(self.user(user)), self.item(item)
        match = (u * i).sum(-1, keepdim=True)
        joined = torch.cat([i, self.shop(shop), numbers, match], -1)
        return self.out(torch.relu(self.second(torch.relu(self.first(joined)))))


def recommender() -> Case:
    generator = torch.Generator().manual_seed(0)
    ids = {
        name: torch.randint(0, n, (6,), generator=generator) for name, n in (("user", 50), ("item", 40), ("shop", 9))
    }
    return Recommender(), {**ids, "numbers": torch.randn(6, 5, generator=generator)}


class Tagger(nn.Module):
    """A two-layer bidirectional LSTM over word vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(101, 12)
        self.lstm = nn.LSTM(12, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(16, 5)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.out(self.lstm(self.words(input_ids))[0])


def tagger() -> Case:
    return Tagger(), {"input_ids": token_ids()}


class Fused(nn.Module):
    """Written this morning: raw parameters, query, key and value in one product, a norm written out."""

    def __init__(self) -> None:
        super().__init__()
        self.h, self.heads = 24, 3
        self.table = nn.Parameter(torch.randn(101, 24))
        self.qkv, self.o = nn.Parameter(torch.randn(24, 72) / 5), nn.Parameter(torch.randn(24, 24) / 5)
        self.scale, self.shift = nn.Parameter(torch.rand(24)), nn.Parameter(torch.randn(24))
        self.up, self.gate = nn.Parameter(torch.randn(24, 40) / 5), nn.Parameter(torch.randn(24, 40) / 5)
        self.down = nn.Parameter(torch.randn(40, 24) / 6)
        self.out = nn.Parameter(torch.randn(24, 4) / 5)

    def norm(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) * self.scale + self.shift

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.table[input_ids]
        b, n, _ = x.shape
        q, k, v = (self.norm(x) @ self.qkv).chunk(3, dim=-1)
        q, k, v = (t.reshape(b, n, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        weights = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, dim=-1)
        x = x + (weights @ v).transpose(1, 2).reshape(b, n, -1) @ self.o
        y = self.norm(x)
        x = x + (nn.functional.silu(y @ self.gate) * (y @ self.up)) @ self.down
        return self.norm(x).mean(1) @ self.out


def fused() -> Case:
    return Fused(), {"input_ids": token_ids()}


class Experts(nn.Module):
    """A mixture of experts by einsum, every expert computed."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.router = nn.Linear(6, 16), nn.Linear(16, 4)
        self.up, self.down = nn.Parameter(torch.randn(4, 16, 20) / 4), nn.Parameter(torch.randn(4, 20, 16) / 4)
        self.norm, self.out = nn.RMSNorm(16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        y = self.norm(h)
        share = torch.softmax(self.router(y), -1)
        each = torch.einsum("bei,eio->beo", torch.relu(torch.einsum("bi,eio->beo", y, self.up)), self.down)
        return self.out(h + torch.einsum("be,beo->bo", share, each))


def experts() -> Case:
    return Experts(), {"x": torch.randn(5, 6, generator=torch.Generator().manual_seed(0))}


class Literals(nn.Module):
    """Sizes written into forward as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.q, self.k, self.v = nn.Linear(6, 24), *(nn.Linear(24, 24) for _ in range(3))
        self.o, self.out = nn.Linear(24, 24), nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        q, k, v = (f(h).view(h.shape[0], h.shape[1], 4, 6).transpose(1, 2) for f in (self.q, self.k, self.v))
        h = h + self.o(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(h.shape[0], -1, 24))
        return self.out(nn.functional.layer_norm(h, (24,)))


def literals() -> Case:
    return Literals(), {"x": torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))}


class Gated(nn.Module):
    """A GRU, weight norm, a shared layer used twice, and a table tied to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(101, 16)
        self.gru = nn.GRU(16, 16, batch_first=True)
        self.shared = nn.Linear(16, 16)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))
        self.out = nn.Linear(16, 101, bias=False)
        self.out.weight = self.words.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.gru(self.words(input_ids))[0]
        x = torch.tanh(self.shared(torch.tanh(self.shared(x))))
        return self.out(self.normed(x))


def gated() -> Case:
    return Gated(), {"input_ids": token_ids()}


class Relative(nn.Module):
    """A normed table of distances (DeBERTa), and heads with an axis of their own in every parameter (XLNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.distances = nn.Embedding(101, 12), nn.Parameter(torch.randn(9, 12))
        self.norm, self.out = nn.LayerNorm(12), nn.Linear(12, 2)
        self.v, self.o = (nn.Parameter(torch.randn(12, 3, 4) / 3) for _ in range(2))

    def forward(self, input_ids: Tensor) -> Tensor:
        h, distances = self.words(input_ids), self.norm(self.distances)
        h = h + (h @ distances.mT).softmax(-1) @ distances
        values = torch.einsum("bth,hnd->btnd", h, self.v)
        return self.out(h + torch.einsum("btnd,hnd->bth", values, self.o))


def relative() -> Case:
    return Relative(), {"input_ids": token_ids()}


class Pooled(nn.Module):
    """torch's own encoder, and a learned question that attends to what it gives: heads and rows share an axis."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(24, 4, 40, batch_first=True)
        self.inner, self.encoder = nn.Linear(6, 24), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.question, self.pooling = (
            nn.Parameter(torch.randn(1, 1, 24)),
            nn.MultiheadAttention(24, 4, batch_first=True),
        )
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(self.inner(x))
        pooled, _ = self.pooling(self.question.expand(x.shape[0], -1, -1), h, h)
        return self.out(pooled[:, 0])


def pooled() -> Case:
    return Pooled(), {"x": torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(0))}


PLAIN = (perceptron, unet, recommender, tagger, fused, experts, literals, gated, relative, pooled)
