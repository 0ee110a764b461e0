"""Blocks that networks over images are drawn from, (B, C, H, W) -> (B, C', H, W)."""

import torch
from random_sequence_blocks import ACTIVATIONS, Block
from torch import Tensor, nn
from torch.nn import functional as F


class Convolution(Block):
    def make(self) -> None:
        self.out = self.other()
        self.style = self.draw.choice(["3", "1", "grouped", "depthwise", "dilated", "up and down", "transposed", "5x1"])
        self.act = self.draw.choice([*ACTIVATIONS, None])
        bias = self.draw.random() < 0.5
        if self.style == "depthwise":
            self.out = self.width * self.draw.choice([1, 2])
            self.conv: nn.Module = nn.Conv2d(self.width, self.out, 3, padding=1, groups=self.width, bias=bias)
        elif self.style == "grouped":
            self.conv = nn.Conv2d(self.width, self.out, 3, padding=1, groups=2, bias=bias)
        elif self.style == "dilated":
            self.conv = nn.Conv2d(self.width, self.out, 3, padding=2, dilation=2, padding_mode="replicate")
        elif self.style == "5x1":
            self.conv = nn.Conv2d(self.width, self.out, (5, 1), padding=(2, 0))
        elif self.style in ("up and down", "transposed"):
            self.conv = nn.Conv2d(self.width, self.out, 2, stride=2, bias=bias)
            self.up = nn.ConvTranspose2d(self.out, self.out, 2, stride=2)
        else:
            size = int(self.style)
            self.conv = nn.Conv2d(self.width, self.out, size, padding=size // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x if self.act is None else self.act(x)
        if self.style == "up and down":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.up(x) if self.style == "transposed" else x


class ImageNorm(Block):
    def make(self) -> None:
        styles = ["batch", "group", "instance", "last", "own", "frn", "grn", "standard", "prelu"]
        self.style = self.draw.choice(styles)
        self.weight, self.bias = self.parameter(self.width), self.parameter(self.width)
        self.norm: nn.Module = nn.Identity()
        if self.style == "batch":
            self.norm = nn.BatchNorm2d(self.width)
        if self.style == "group":
            self.norm = nn.GroupNorm(2, self.width)
        if self.style == "instance":
            self.norm = nn.InstanceNorm2d(self.width, affine=self.draw.random() < 0.5)
        if self.style == "last":
            self.norm = nn.LayerNorm(self.width)
        if self.style == "prelu":
            self.norm = nn.PReLU(self.width)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight[:, None, None], self.bias[:, None, None]
        if self.style == "last":
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.style == "own":
            mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
            return weight * (x - mean) / torch.sqrt(variance + 1e-5) + bias
        if self.style == "frn":
            return torch.maximum(x * torch.rsqrt(x.pow(2).mean((2, 3), keepdim=True) + 1e-5) * weight, bias)
        if self.style == "grn":
            size = x.norm(dim=(2, 3), keepdim=True)
            return x * (size / (size.mean(1, keepdim=True) + 1e-5)) * weight + bias + x
        if self.style == "standard":
            return (x - bias) * weight
        return self.norm(x)


class Inverted(Block):
    """Expand, depthwise, excite, shrink."""

    def make(self) -> None:
        inner = self.draw.choice([12, 16])
        self.expand = nn.Conv2d(self.width, inner, 1, bias=False)
        self.first, self.second = nn.BatchNorm2d(inner), nn.BatchNorm2d(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.squeeze, self.excite = nn.Conv2d(inner, 4, 1), nn.Conv2d(4, inner, 1)
        self.shrink = nn.Conv2d(inner, self.width, 1)
        self.act, self.by = self.draw.choice(ACTIVATIONS), self.draw.choice(["mean", "adaptive", "linear", "none"])

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.first(self.expand(x)))
        h = self.act(self.second(self.depthwise(h)))
        if self.by == "linear":
            said = F.linear(h.mean((2, 3)), self.squeeze.weight.flatten(1), self.squeeze.bias).relu()
            said = F.linear(said, self.excite.weight.flatten(1)).sigmoid()
            h = h * said.view(h.shape[0], -1, 1, 1)
        elif self.by != "none":
            pooled = h.mean((2, 3), keepdim=True) if self.by == "mean" else F.adaptive_avg_pool2d(h, 1)
            h = h * torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled))))
        return self.shrink(h)


class PixelAttention(Block):
    """Every place looks at every other one."""

    def make(self) -> None:
        self.heads, self.size = self.draw.choice([1, 2, 3]), 4
        inner = self.heads * self.size
        self.qkv, self.o = nn.Conv2d(self.width, 3 * inner, 1), nn.Conv2d(inner, self.width, 1)
        self.over = self.draw.choice(["places", "channels"])

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        q, k, v = self.qkv(x).reshape(b, 3, self.heads, self.size, h * w).unbind(1)
        if self.over == "places":
            y = v @ (q.transpose(-2, -1) @ k / self.size**0.5).softmax(-1).transpose(-2, -1)
        else:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
            y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.o(y.reshape(b, -1, h, w))


class Planes(Block):
    """What moves channels about without a parameter, or weighs places."""

    def make(self) -> None:
        styles = ["shuffle", "pixels", "space", "pool", "max", "places", "local", "halves", "split", "eca", "window"]
        self.style = self.draw.choice(styles)
        if self.style == "pixels":
            self.point, self.out = nn.Conv2d(self.width, 4 * self.width, 1), self.width
        if self.style == "space":
            self.point = nn.Conv2d(4 * self.width, self.width, 1)
        if self.style == "places":
            self.point = nn.Conv2d(2, 1, 3, padding=1)
        if self.style in ("halves", "split"):
            self.half = self.width // 2
            self.point = nn.Conv2d(self.half, self.half, 3, padding=1)
        if self.style == "eca":
            self.along = nn.Conv1d(1, 1, 3, padding=1)
        if self.style == "window":
            self.linear = nn.Linear(self.width, self.width)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        if self.style == "shuffle":
            return x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        if self.style == "pixels":
            return F.max_pool2d(F.pixel_shuffle(self.point(x), 2), 2)
        if self.style == "space":
            return F.interpolate(self.point(F.pixel_unshuffle(x, 2)), scale_factor=2.0)
        if self.style == "pool":
            return F.avg_pool2d(x, 3, stride=1, padding=1) - x
        if self.style == "max":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        if self.style == "places":
            both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
            return x * torch.sigmoid(self.point(both))
        if self.style == "local":
            return F.unfold(x, 3, padding=1).view(b, c, 9, h, w).mean(2)
        if self.style == "halves":
            a, d = x.chunk(2, 1)
            return torch.cat([a, self.point(d)], 1)
        if self.style == "split":
            a, d = x.split(self.half, 1)
            return torch.cat([torch.relu(self.point(a) + d), a], 1)
        if self.style == "eca":
            said = self.along(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
            return x * torch.sigmoid(said)
        y = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
        y = self.linear(y).view(b, h // 2, w // 2, 2, 2, c)
        return y.permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


BLOCKS: list[type[Block]] = [Convolution, Convolution, Convolution, ImageNorm, Inverted, PixelAttention, Planes]
