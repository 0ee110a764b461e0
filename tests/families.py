"""Tiny random models of many families, each with example inputs: what the laws of any architecture are held against."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.dimensions import DimensionGraph, trace

Case = tuple[nn.Module, dict[str, Tensor]]


def _ids(rows: int = 3, length: int = 7, vocabulary: int = 96) -> Tensor:
    return torch.randint(5, vocabulary, (rows, length), generator=torch.Generator().manual_seed(0))


def _text(**more: Tensor) -> dict[str, Tensor]:
    ids = _ids()
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, **more}


def _transformers(config: str, model: str, inputs: Callable[[], dict[str, Tensor]], **fields: Any) -> Case:
    import transformers

    built = getattr(transformers, model)(getattr(transformers, config)(**fields))
    return built, inputs()


ENCODER = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "vocab_size": 101,
    "max_position_embeddings": 64,
}
DECODER = {**ENCODER, "num_attention_heads": 6, "num_key_value_heads": 3, "use_cache": False}


def bert() -> Case:
    return _transformers("BertConfig", "BertForSequenceClassification", _text, **ENCODER)


def bert_masked_lm() -> Case:
    return _transformers("BertConfig", "BertForMaskedLM", _text, **ENCODER)


def roberta() -> Case:
    return _transformers("RobertaConfig", "RobertaForSequenceClassification", _text, **ENCODER, pad_token_id=1)


def distilbert() -> Case:
    fields = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "vocab_size": 101}
    return _transformers("DistilBertConfig", "DistilBertForSequenceClassification", _text, **fields)


def albert() -> Case:
    fields = {**ENCODER, "embedding_size": 16}
    return _transformers("AlbertConfig", "AlbertForSequenceClassification", _text, **fields)


def electra() -> Case:
    fields = {**ENCODER, "embedding_size": 16}
    return _transformers("ElectraConfig", "ElectraForTokenClassification", _text, **fields)


def gpt2() -> Case:
    fields = {"n_embd": 24, "n_layer": 2, "n_head": 3, "vocab_size": 101, "n_positions": 64, "use_cache": False}
    return _transformers("GPT2Config", "GPT2LMHeadModel", _text, **fields)


def llama() -> Case:
    return _transformers("LlamaConfig", "LlamaForCausalLM", _text, **DECODER)


def mistral() -> Case:
    return _transformers("MistralConfig", "MistralForCausalLM", _text, **DECODER, sliding_window=4)


def t5() -> Case:
    fields = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3, "vocab_size": 101}

    def inputs() -> dict[str, Tensor]:
        return _text(decoder_input_ids=_ids(3, 5))

    return _transformers("T5Config", "T5ForConditionalGeneration", inputs, **fields, use_cache=False)


def bart() -> Case:
    return _bart("BartConfig", "BartForConditionalGeneration")


def marian() -> Case:
    return _bart("MarianConfig", "MarianMTModel", decoder_start_token_id=1)


def _bart(config: str, name: str, **fields: Any) -> Case:
    """An encoder-decoder whose table is tied to both sides and the head (Lewis et al., 2020)."""
    both = {"layers": 2, "attention_heads": 3, "ffn_dim": 40}
    sizes = {f"{side}_{field}": size for side in ("encoder", "decoder") for field, size in both.items()}
    fields |= {**sizes, "d_model": 24, "vocab_size": 101, "max_position_embeddings": 64, "pad_token_id": 1}

    def inputs() -> dict[str, Tensor]:
        return _text(decoder_input_ids=_ids(3, 5))

    return _transformers(config, name, inputs, **fields, use_cache=False)


def vit() -> Case:
    fields = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "image_size": 16,
        "patch_size": 4,
    }
    return _transformers("ViTConfig", "ViTForImageClassification", _image, **fields)


def resnet() -> Case:
    fields = {"embedding_size": 8, "hidden_sizes": [16, 24], "depths": [1, 2], "layer_type": "bottleneck"}
    return _transformers("ResNetConfig", "ResNetForImageClassification", lambda: _image(32), **fields)


def _image(size: int = 16) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))}


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
    return Tagger(), {"input_ids": _ids()}


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
    return Fused(), {"input_ids": _ids()}


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
    return Gated(), {"input_ids": _ids()}


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
    return Relative(), {"input_ids": _ids()}


FAMILIES: dict[str, Callable[[], Case]] = {
    function.__name__: function
    for function in (
        bert,
        bert_masked_lm,
        roberta,
        distilbert,
        albert,
        electra,
        gpt2,
        llama,
        mistral,
        t5,
        bart,
        marian,
        vit,
        resnet,
        perceptron,
        unet,
        recommender,
        tagger,
        fused,
        experts,
        literals,
        gated,
        relative,
    )
}


def make(name: str) -> Case:
    """A family's model in float64 and evaluation mode, its weights large enough for every law to bite."""
    torch.manual_seed(0)
    model, inputs = FAMILIES[name]()
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model, {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}


@cache
def graph_of(name: str) -> DimensionGraph:
    """Of a model of its own, which is as those of `make` are; traced once."""
    return trace(*make(name))
