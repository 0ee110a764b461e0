"""Rarer blocks of networks over images, (B, C, H, W) -> (B, C', H, W)."""

import torch
from random_sequence_blocks import ACTIVATIONS, Block
from torch import Tensor, nn
from torch.nn import functional as F


class Ghost(Block):
    """Some channels by a convolution, the others from them by a cheap one."""

    def make(self) -> None:
        half = self.draw.choice([4, 6])
        self.main, self.cheap = nn.Conv2d(self.width, half, 1), nn.Conv2d(half, half, 3, padding=1, groups=half)
        self.norm, self.out = nn.BatchNorm2d(2 * half), 2 * half

    def forward(self, x: Tensor) -> Tensor:
        main = torch.relu(self.main(x))
        return self.norm(torch.cat([main, torch.relu(self.cheap(main))], 1))


class Branches(Block):
    """Inception, selective kernels, a reparametrized block, a pyramid."""

    def make(self) -> None:
        self.style = self.draw.choice(["inception", "selective", "sum", "pyramid", "dense"])
        mid = self.draw.choice([4, 6])
        self.one, self.three = nn.Conv2d(self.width, mid, 1), nn.Conv2d(self.width, mid, 3, padding=1)
        self.five = nn.Conv2d(self.width, mid, 5, padding=2)
        self.join = nn.Conv2d(mid, 2 * mid, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(mid) for _ in range(3))
        self.more = nn.Conv2d(self.width + mid, mid, 3, padding=1)
        extra = {"inception": 3 * mid + self.width, "dense": self.width + 2 * mid}
        self.out = extra.get(self.style, mid)

    def forward(self, x: Tensor) -> Tensor:
        if self.style == "dense":
            y = torch.cat([x, torch.relu(self.norms[0](self.three(x)))], 1)
            return torch.cat([y, torch.relu(self.norms[1](self.more(y)))], 1)
        if self.style == "pyramid":
            low = F.avg_pool2d(self.one(x), 2)
            return self.three(x) + F.interpolate(low, size=x.shape[-2:], mode="bilinear", align_corners=False)
        a, b, c = (norm(conv(x)) for norm, conv in zip(self.norms, (self.one, self.three, self.five), strict=True))
        if self.style == "inception":
            return torch.cat([torch.relu(a), torch.relu(b), c, F.max_pool2d(x, 3, 1, 1)], dim=1)
        if self.style == "sum":
            return torch.relu(a + b + c)
        said = self.join((a + b).mean((2, 3), keepdim=True)).unflatten(1, (2, -1)).softmax(1)
        return a * said[:, 0] + b * said[:, 1]


class Kernels(Block):
    """Kernels that are fixed, computed, or shared between channels."""

    def make(self) -> None:
        self.style = self.draw.choice(
            ["blur", "standardized", "involution", "sobel", "circular", "shared", "separable"]
        )
        kernel = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("blur", (kernel[:, None] * kernel / 16).expand(self.width, 1, 3, 3).clone())
        self.register_buffer("sobel", torch.randn(1, 1, 3, 3))
        self.conv = nn.Conv2d(self.width, self.width, 3, padding=1)
        self.around = nn.Conv2d(self.width, self.width, 3, padding=1, padding_mode="circular")
        self.reduce, self.span = nn.Conv2d(self.width, 4, 1), nn.Conv2d(4, 9 * 2, 1)
        self.alone = nn.Parameter(torch.randn(1, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        if self.style == "blur":
            return F.conv2d(x, self.blur, padding=1, groups=c)
        if self.style == "sobel":
            return F.conv2d(x, self.sobel.expand(c, -1, -1, -1), padding=1, groups=c)
        if self.style == "shared":
            return F.conv2d(x.reshape(b * c, 1, h, w), self.alone, padding=1).view(b, c, h, w)
        if self.style == "circular":
            return self.around(x)
        if self.style == "separable":
            x = F.conv2d(x, self.blur[:, :, :1], padding=(0, 1), groups=c)
            return F.conv2d(x, self.blur[:, :, :, 1:2], padding=(1, 0), groups=c)
        if self.style == "standardized":
            weight = self.conv.weight
            mean, deviation = weight.mean((1, 2, 3), keepdim=True), weight.std((1, 2, 3), keepdim=True)
            return F.conv2d(x, (weight - mean) / (deviation + 1e-4), self.conv.bias, padding=1)
        kernel = self.span(torch.relu(self.reduce(x))).view(b, 2, 1, 9, h, w)
        around = F.unfold(x, 3, padding=1).view(b, 2, c // 2, 9, h, w)
        return (kernel * around).sum(3).view(b, c, h, w)


class Weighed(Block):
    """Places and channels weighed by pools along one side, by both kinds of pools, or by context."""

    def make(self) -> None:
        self.style = self.draw.choice(["coordinate", "both", "context", "focal", "response"])
        self.squeeze, self.excite = nn.Conv2d(self.width, 4, 1), nn.Conv2d(4, self.width, 1)
        self.other_excite, self.place = nn.Conv2d(4, self.width, 1), nn.Conv2d(self.width, 1, 1)
        self.norm = nn.BatchNorm2d(4)
        self.split = nn.Conv2d(self.width, 2 * self.width + 1, 1)
        self.deep = nn.Conv2d(self.width, self.width, 3, padding=1, groups=self.width)
        self.act = self.draw.choice(ACTIVATIONS)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        if self.style == "coordinate":
            rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
            y = self.act(self.norm(self.squeeze(torch.cat([rows, columns], 2))))
            rows, columns = y.split([h, w], 2)
            return x * self.excite(rows).sigmoid() * self.other_excite(columns.transpose(2, 3)).sigmoid()
        if self.style == "both":
            pooled = [F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)]
            return x * torch.sigmoid(sum(self.excite(torch.relu(self.squeeze(each))) for each in pooled))
        if self.style == "context":
            shares = self.place(x).view(b, 1, h * w, 1).softmax(2)
            context = (x.view(b, 1, c, h * w) @ shares).view(b, c, 1, 1)
            return x + self.excite(torch.relu(self.squeeze(context)))
        if self.style == "focal":
            q, context, gates = torch.split(self.split(x), (c, c, 1), 1)
            return q * (self.act(self.deep(context)) * gates)
        return F.local_response_norm(x, 3)


BLOCKS: list[type[Block]] = [Ghost, Branches, Branches, Kernels, Kernels, Weighed]
