"""Values are captured inside a block alone, at what comes out of a module and at what enters it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgefold.distillation import captured_outputs, logits_of
from edgefold.distillation.captures import observe
from edgefold.errors import InputError


def test_outputs_are_captured_only_inside_the_block() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    x = torch.randn(4, 2)
    with captured_outputs(model, ["0"]) as outputs:
        model(x)
    assert torch.equal(outputs["0"], model[0](x))
    assert not model[0]._forward_hooks


def test_the_first_entrance_and_the_last_output_stay() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
            return self.inner(self.inner(x)), None

    model, x = nn.Sequential(Twice()), torch.randn(4, 3)
    with captured_outputs(model, ["0", "0.inner", "> 0.inner"]) as values:
        model(x)
    assert torch.equal(values["> 0.inner"], x)
    assert torch.equal(values["0.inner"], model(x)[0])
    assert torch.equal(values["0"], values["0.inner"])


def test_what_passes_no_tensor_is_refused() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> str:
            return "x"

    model = nn.Sequential(Odd())
    with (
        captured_outputs(model, ["0"]),
        pytest.raises(InputError, match="No tensor passes '0', so nothing can"),
    ):
        model(torch.ones(1))
    with pytest.raises(InputError, match=r"Sequential has no module '1' to compare"), captured_outputs(model, ["1"]):
        pass


def test_attention_maps_are_given_for_a_while(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    model, inputs = make_bert(), text_batch()
    seen = observe(model, model, inputs, [], [1])
    assert model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(seen.outputs.logits, model(**inputs).logits)
    torch.testing.assert_close(seen.attentions[1].sum(-1), torch.ones(4, 3, 9).double())
    with pytest.raises(InputError, match="gave 2 attention maps where layer 5 was asked for"):
        observe(model, model, inputs, [], [5])


def test_logits_are_found_in_the_usual_outputs() -> None:
    x = torch.randn(2, 3)
    assert logits_of(x) is logits_of((x, 1)) is logits_of({"logits": x}) is x
    with pytest.raises(InputError, match="returned dict without logits"):
        logits_of({"scores": x})


def test_spans_and_pretrained_outputs_have_logits_too() -> None:
    class Outputs:
        def __init__(self, **fields: torch.Tensor) -> None:
            vars(self).update(fields)

    start, end = torch.randn(2, 7), torch.randn(2, 7)
    assert torch.equal(logits_of(Outputs(start_logits=start, end_logits=end)), torch.stack([start, end], 1))
    assert logits_of(Outputs(prediction_logits=start)) is start
