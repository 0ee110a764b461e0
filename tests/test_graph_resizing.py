"""Literals of a traced graph that are no sizes of what changes stay, and those that are follow."""

import torch
from family_plans import first
from torch import Tensor, nn
from torch.fx import GraphModule

from edgefold.dimensions import trace
from edgefold.plans import Plan, Select
from edgefold.student_building import build_student


class Windows(nn.Module):
    """Attention within windows of three of five places, as Swin pads them and cuts them off again; all in literals."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.qkv, self.back = nn.Linear(6, 8), nn.Linear(8, 36), nn.Linear(12, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        windows = nn.functional.pad(h, (0, 0, 0, 1)).view(-1, 3, 8)
        q, k, v = self.qkv(windows).view(-1, 3, 3, 4, 3).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 3, 12)
        return self.out(h + self.back(mixed).view(-1, 6, 8)[:, :5])


def test_a_cut_that_is_not_between_windows_stays_where_it_is() -> None:
    torch.manual_seed(0)
    model, inputs = Windows().double().eval(), {"x": torch.randn(4, 5, 6, dtype=torch.float64)}
    graph = trace(model, inputs)
    with torch.no_grad():
        model.back.weight[:, 3:9] = 0  # nobody reads the second and the third head
    student = build_student(model, Plan([Select("heads", 2)]), inputs, [inputs], graph=graph)
    assert isinstance(student.module, GraphModule)
    other = {"x": torch.randn(7, 5, 6, dtype=torch.float64)}
    torch.testing.assert_close(first(student, other), first(model, other), rtol=1e-10, atol=1e-10)
