"""N:M at export: weights that lost their pattern are refused, and quantizing to int8 keeps every zero."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from edgefold.checkpoints import load_student, read_manifest
from edgefold.errors import InputError
from edgefold.exporters import export_onnx
from edgefold.folding import fold
from edgefold.jobs.compression import compress
from edgefold.masks.checks import check_nm
from edgefold.masks.steps import NM
from edgefold.plans import Plan
from edgefold.recipes.recipe import load_recipe
from edgefold.student_building import build_student

INPUT_AXIS = {"MatMul": 0, "MatMulInteger": 0, "Gemm": 0, "Conv": 1}


class Net(nn.Module):
    """A convolution, a product over many vectors, a product over one; x: (batch, 4, 8, 8) -> (batch, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.each, self.last = nn.Conv2d(4, 8, 3), nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.relu(self.image(x)).flatten(2).transpose(1, 2)
        return self.last(torch.relu(self.each(places)).mean(1))


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    return {"x": torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))}


@pytest.fixture
def plain(inputs: dict[str, Tensor]) -> Any:
    torch.manual_seed(0)
    return fold(build_student(Net().eval(), PLAN, inputs, [inputs]))


PLAN = Plan([NM(2, 4, score="wanda")])
LINEAGE = {"plan": PLAN.to_dicts()}


def product_weights(path: Path) -> Iterator[NDArray[Any]]:
    """The constant weights of all products, looked at through what dequantizes them, as (rows, inputs)."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        name = node.input[1] if node.op_type in INPUT_AXIS else ""
        while name in made_by and made_by[name].op_type in ("DequantizeLinear", "Transpose"):
            assert made_by[name].op_type != "Transpose"
            name = made_by[name].input[0]
        if name in constants:
            turned = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            weight = np.moveaxis(constants[name], 1 if turned else INPUT_AXIS[node.op_type], -1)
            yield weight.reshape(-1, weight.shape[-1])


@pytest.mark.parametrize(
    ("arguments", "integers"),
    [
        ({}, 0),
        ({"precision": "int8"}, 3),
        ({"precision": "int8", "target": "cpu-arm"}, 3),
        ({"precision": "int8", "quantization": "dynamic"}, 2),
    ],
    ids=str,
)
def test_every_precision_keeps_the_zeros(
    arguments: dict[str, Any], integers: int, plain: Any, inputs: dict[str, Tensor], tmp_path: Path
) -> None:
    artifact = export_onnx(plain, inputs, tmp_path / "out", calibration=[inputs], lineage=LINEAGE, **arguments)
    half = pytest.approx(0.5, abs=0.05)
    assert artifact.lineage["sparsity"] == {"image.weight": half, "each.weight": half, "last.weight": half}
    weights = list(product_weights(artifact.model_path))
    assert len(weights) == 3
    assert sum(weight.dtype == np.int8 for weight in weights) == integers
    for weight in weights:
        counts = (weight.reshape(-1, 4) != 0).sum(1)
        assert counts.max() <= 2
        assert counts.mean() > 1.5  # the others are there


def test_weights_that_lost_their_pattern_are_not_exported(
    plain: Any, inputs: dict[str, Tensor], tmp_path: Path
) -> None:
    with torch.no_grad():
        plain.each.weight[3, 4:8] = 1.0
    with pytest.raises(InputError, match=r"each\.weight is not 2:4 sparse: in row 3, of inputs 4 to 7, 4 weights are"):
        export_onnx(plain, inputs, tmp_path / "out", lineage=LINEAGE)
    assert not list(tmp_path.iterdir())
    export_onnx(plain, inputs, tmp_path / "out", lineage={"plan": [{"low_rank": {"where": "each", "rank": 2}}]})


@pytest.mark.filterwarnings("ignore")
def test_a_recipe_with_masks_leaves_a_checkpoint_that_keeps_its_plan(job: Path, tmp_path: Path) -> None:
    """From the YAML file to the folder that `edgefold export` reads the plan from."""
    masks = "nm: {n: 2, m: 4, where: encoder, score: wanda}, unstructured: {sparsity: 0.75, where: pooler}]"
    recipe = (job / "recipe.yaml").read_text().replace("size: 2}]", f"size: 2}}, {masks}")
    (job / "masked.yaml").write_text(recipe)
    student = compress(load_recipe(job / "masked.yaml"), tmp_path / "student").student
    opened: Any = load_student(student)
    assert check_nm(opened, 2, 4, "encoder") == 12
    pooler = opened.bert.pooler.dense.weight
    assert int((pooler == 0).sum()) == round(0.75 * pooler.numel())
    plan = read_manifest(student)["lineage"]["plan"]
    assert [NM(**step["nm"]) for step in plan if "nm" in step] == [NM(2, 4, "encoder", "wanda")]
