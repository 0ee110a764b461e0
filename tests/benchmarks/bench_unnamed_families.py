"""Families that edgefold was never told about: each halved along all that it allows, folded, saved, opened, exported.

`make bench ARGS="-k unnamed"` prints a row for each: how its student was built, what is left of the parameters, the
error of the student when it is opened again (in units of the largest output) and of its ONNX graph; or what was
refused, and why. Training is stood in for by moving every weight. `FAMILIES=qwen3,swin` runs some of them.
"""

import os
from pathlib import Path

import pytest
from family_survey import survey
from unnamed_families import FAMILIES, make_inputs, make_model

pytestmark = pytest.mark.filterwarnings("ignore")
LIMIT = 1e-4
CHOSEN = os.environ.get("FAMILIES", "").split(",") if "FAMILIES" in os.environ else FAMILIES


@pytest.mark.parametrize("name", CHOSEN)
def test_unnamed_families(name: str, tmp_path: Path) -> None:
    error = survey(name, make_model(FAMILIES[name]), make_inputs(FAMILIES[name].reads), tmp_path)
    assert error is None or error <= LIMIT
