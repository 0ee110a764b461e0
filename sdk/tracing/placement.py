"""Example tensors where their model is: one that was trained on a GPU stays there, and batches come from the CPU."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def device_of(model: nn.Module) -> torch.device:
    """Of its first parameter, else of its first buffer; the CPU where it has neither."""
    tensors = (tensor for group in (model.parameters(), model.buffers()) for tensor in group)
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def placed(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch on that device."""
    return {name: value.to(device) for name, value in batch.items()}
