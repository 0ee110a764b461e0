"""Where students start: norms by regression, means kept by the biases, the better choice of coordinates."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.plans import Plan, Project, Select
from edgefold.student_building import IMPORTANCES, build_student


def test_the_part_of_the_mean_that_a_projection_cuts_off_reaches_the_bias() -> None:
    """A stream with a large constant part and variance in few directions is kept whole."""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)).double().eval()
    with torch.no_grad():
        teacher[0].bias.add_(20)
    x = {"input": torch.randn(200, 4, dtype=torch.float64)}
    name = next(d.name for d in trace(teacher, x) if d.kind == "linear")
    student = build_student(teacher, Plan([Project(name, 4)]), x, [x])
    torch.testing.assert_close(student(**x), teacher(**x), rtol=1e-8, atol=1e-8)


def test_refitted_norms_beat_projected_ones(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    """Scale and shift are the least-squares fit of each small coordinate to the teacher's, on the calibration data."""
    from edgefold.distillation import captured_outputs

    teacher, batch = make_bert(), text_batch(8, 12, 5)
    student = build_student(teacher, Plan([Project("hidden", 8)]), text_batch(), [batch])
    path = student.matches[0].module
    mask = batch["attention_mask"].bool()
    with captured_outputs(teacher, [path]) as h, captured_outputs(student.module, [path]) as s, torch.no_grad():
        teacher(**batch), student(**batch)
        projection = student.projection("hidden")
        assert projection is not None
        target, found = (h[path] @ projection)[mask], s[path][mask]
    residual = target - found
    centred = found - found.mean(0)
    torch.testing.assert_close(residual.mean(0), torch.zeros(8).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close((residual * centred).mean(0), torch.zeros(8).double(), rtol=0, atol=1e-9)


def test_selection_keeps_the_neurons_that_matter() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3)).double().eval()
    with torch.no_grad():
        teacher[2].weight[:, ::2] *= 1e-6
    x = {"input": torch.randn(100, 5, dtype=torch.float64)}
    student = build_student(teacher, Plan([Select("units", 10)]), x, [x])
    torch.testing.assert_close(student(**x), teacher(**x), rtol=1e-3, atol=1e-4)


def test_an_emphasised_layer_loses_less(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    from edgefold.distillation import captured_outputs

    teacher, batch = make_bert(), text_batch(16, 12, 5)
    paths = [f"encoder.layer.{layer}.output.LayerNorm" for layer in (0, 1)]
    with captured_outputs(teacher, [f"bert.{path}" for path in paths]) as hidden, torch.no_grad():
        teacher(**batch)
    mask = batch["attention_mask"].bool()

    def lost(layer: int, emphasis: dict[str, float] | None) -> float:
        plan = Plan([Project("hidden", 8, emphasis=emphasis)])
        projection = build_student(teacher, plan, text_batch(), [batch], start="pca").projection("hidden")
        assert projection is not None
        rows = hidden[f"bert.{paths[layer]}"][mask]
        rows = rows - rows.mean(0)
        return float((rows - rows @ projection @ projection.T).square().sum().detach())

    for layer in (0, 1):
        assert lost(layer, {f"*.{paths[layer]}": 50.0}) < lost(layer, None)


def test_emphasis_that_matches_no_module_is_refused(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    plan = Plan([Project("hidden", 8, emphasis={"bert.encoder.layer.7": 3})])
    with pytest.raises(InputError, match=r"'bert\.encoder\.layer\.7'.*matches no module.*such as bert\.encoder\.layer"):
        build_student(make_bert(), plan, text_batch(), [text_batch()])


def test_of_neurons_that_say_the_same_a_refitted_student_keeps_one() -> None:
    """Twins of the loud neurons would push out the quiet ones; what reads a twin takes over the work of both."""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3)).double().eval()
    with torch.no_grad():
        for parameter in (teacher[0].weight, teacher[0].bias):
            parameter[10:] = parameter[:10]
        teacher[2].weight[:, [0, 1, 2, 10, 11, 12]] *= 3
    x = {"input": torch.randn(200, 5, dtype=torch.float64)}
    missed = {}
    with torch.no_grad():
        for importance in IMPORTANCES:
            student = build_student(teacher, Plan([Select("units", 10)]), x, [x], importance=importance)
            missed[importance] = float((student(**x) - teacher(**x)).std())
    assert missed["elimination"] < 0.5 * missed["energy"]


def test_elimination_without_a_refit_is_refused() -> None:
    teacher = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
    x = {"input": torch.randn(20, 5)}
    with pytest.raises(InputError, match=r"importance='elimination' counts on .* start='pca' in mode='weights'"):
        build_student(teacher, Plan([Select("units", 10)]), x, [x], start="pca", importance="elimination")
    with pytest.raises(InputError, match=r"importance='size' is not known; choose one of energy, elimination"):
        build_student(teacher, Plan([Select("units", 10)]), x, [x], importance="size")
