"""What is taken out of a module can be stood in for, and comes back as what it was: under all names, in its order."""

import torch
from torch import Tensor, nn

from edgefold.weight_slots import find_slots


class Tied(nn.Module):
    """One tensor under two names, one layer under two names, buffers that are saved and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.layer = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([self.layer, self.layer])
        self.out = nn.Linear(4, 7)
        self.out.weight = self.table.weight
        self.register_buffer("shift", torch.randn(4))
        self.register_buffer("scale", torch.randn(4), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids) * self.scale + self.shift
        for block in self.blocks:
            x = torch.relu(block(x))
        return self.out(x)


NAMES = ("table.weight", "layer.weight", "shift", "scale")


def test_emptied_installed_and_restored() -> None:
    model, ids = Tied(), torch.arange(7)
    expected = model(ids)
    listed = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    saved = list(model.state_dict())
    slots = find_slots(model, NAMES)
    values = [2 * model.get_parameter(name) if "." in name else model.get_buffer(name) for name in NAMES]
    for slot in slots:
        slot.empty(model)
        slot.empty(model)  # twice is once
    assert [name for name, _ in model.named_parameters()] == ["layer.bias", "out.bias"]
    assert not list(model.buffers())
    for slot, value in zip(slots, values, strict=True):
        slot.install(model, value)
    model(ids).sum().backward()
    assert not any(name in model.state_dict() for name in NAMES)
    for slot, value in zip(slots, values, strict=True):
        slot.restore(model, value.detach() / (2 if slot.is_parameter else 1))
    assert torch.equal(model(ids), expected)
    assert model.out.weight is model.table.weight
    assert [name for name, _ in model.named_parameters(remove_duplicate=False)] == listed
    assert set(model.state_dict()) == set(saved)
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in model.parameters())
