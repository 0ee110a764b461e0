"""Terms of a loss: their means from log to log, and the step that was not finite, which a GPU tells one step late."""

import pytest
import torch

from edgefold.errors import InputError
from edgefold.running_terms import RunningTerms

NAN, WHOLE = torch.tensor(float("nan")), torch.tensor(2.0)


def test_means_are_of_the_steps_since_the_last() -> None:
    terms = RunningTerms()
    assert terms.take_means() == {}
    for step, value in enumerate((1.0, 3.0)):
        terms.add(step, {"logits": torch.tensor(value), "task": WHOLE})
    assert terms.take_means() == {"logits": 2.0, "task": 2.0}
    assert terms.take_means() == {}
    terms.add(3, {"task": WHOLE})
    assert terms.take_means() == {"task": 2.0}


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_not_finite_ends_it_at_once_on_a_cpu(value: str) -> None:
    with pytest.raises(InputError, match=f"loss term logits is {value} in step 7: training diverged"):
        RunningTerms().add(7, {"task": WHOLE, "logits": torch.tensor(float(value))})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("ask", ["add", "settle", "take_means"])
def test_on_a_gpu_a_later_look_tells_the_step(ask: str) -> None:
    terms = RunningTerms()
    terms.add(1, {"task": WHOLE.cuda()})
    terms.add(2, {"task": NAN.cuda()})
    with pytest.raises(InputError, match="loss term task is nan in step 2"):
        terms.add(3, {"task": WHOLE.cuda()}) if ask == "add" else getattr(terms, ask)()
