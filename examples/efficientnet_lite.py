"""EfficientNet-lite0 (Tan and Le, 2019) as a module of one's own, that edgefold was never told about."""

from torch import Tensor, nn
from torch.nn.functional import relu6

STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4))
STAGES += ((3, 1, 6, 320, 1),)
"""Kernel, stride, expansion, channels, blocks (Tan and Le, 2019)."""


def norm(channels: int) -> nn.BatchNorm2d:
    """In training it forgets ImageNet's statistics faster than TensorFlow's momentum of 0.99 would."""
    return nn.BatchNorm2d(channels, eps=1e-3)


def same(kernel: int, stride: int) -> nn.ZeroPad2d:
    """As TensorFlow pads even sizes: what is odd goes to the right and below."""
    before, total = (kernel - stride) // 2, kernel - stride
    return nn.ZeroPad2d((before, total - before) * 2)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        if expansion > 1:
            self.expand_conv, self.bn0 = nn.Conv2d(inputs, wide, 1, bias=False), norm(wide)
        self.pad = same(kernel, stride)
        self.depthwise_conv, self.bn1 = nn.Conv2d(wide, wide, kernel, stride, groups=wide, bias=False), norm(wide)
        self.project_conv, self.bn2 = nn.Conv2d(wide, outputs, 1, bias=False), norm(outputs)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = relu6(self.bn0(self.expand_conv(x))) if hasattr(self, "expand_conv") else x
        y = relu6(self.bn1(self.depthwise_conv(self.pad(y))))
        y = self.bn2(self.project_conv(y))
        return x + y if self.has_shortcut else y


class EfficientNetLite0(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.pad, self.conv_stem, self.bn0 = same(3, 2), nn.Conv2d(3, 32, 3, 2, bias=False), norm(32)
        self.blocks, width = nn.ModuleList(), 32
        for kernel, stride, expansion, channels, count in STAGES:
            for number in range(count):
                self.blocks.append(Block(width, channels, kernel, 1 if number else stride, expansion))
                width = channels
        self.conv_head, self.bn1 = nn.Conv2d(width, 1280, 1, bias=False), norm(1280)
        self.fc = nn.Linear(1280, classes)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Tensor:
        x = relu6(self.bn0(self.conv_stem(self.pad(pixel_values))))
        for block in self.blocks:
            x = block(x)
        return self.fc(relu6(self.bn1(self.conv_head(x))).mean((2, 3)))
