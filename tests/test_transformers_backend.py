"""edgefold as a backend of transformers.exporters: exported, run and opened again as transformers does with its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from transformers.exporters import auto

from edgefold.artifacts import load_artifact
from edgefold.errors import InputError
from edgefold.integrations import transformers_backend
from edgefold.integrations.transformers_backend import FIRST, register_edgefold

if not hasattr(auto, "register_backend"):
    pytest.skip(f"needs transformers {FIRST} or later", allow_module_level=True)

from transformers.exporters import AutoExportConfig, AutoHfExporter, ExportedModel

from edgefold.integrations.transformers_exporter import EdgefoldConfig, EdgefoldExporter

pytestmark = pytest.mark.filterwarnings("ignore")
Make = Callable[..., Any]
TOLERANCE = 1e-5


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Twice, and gone afterwards."""
    register_edgefold()
    register_edgefold()
    yield
    del auto.EXPORT_BACKENDS["edgefold"]


@pytest.fixture(scope="module")
def bert(make_bert: Make) -> Any:
    """Which gives its hidden states as well, nested in a tuple."""
    return make_bert(output_hidden_states=True).float().eval()


@pytest.fixture(scope="module")
def exported(bert: Any, text_batch: Make) -> Any:
    exporter = AutoHfExporter.from_config({"export_format": "edgefold"})
    return exporter.export(bert, text_batch(), EdgefoldConfig())


def assert_same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=TOLERANCE)
    assert len(found.hidden_states) == len(expected.hidden_states) == 3
    for one, other in zip(found.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE)


def test_an_export_answers_as_the_model_for_other_sizes_too(bert: Any, exported: Any, text_batch: Make) -> None:
    for batch in (text_batch(), {name: value[:1, :3] for name, value in text_batch().items()}):
        with torch.no_grad():
            assert_same(exported(**batch), bert(**batch))
    assert exported.device.type == "cpu"


def test_a_saved_export_is_an_artifact_and_opens_again(
    bert: Any, exported: Any, text_batch: Make, tmp_path: Path
) -> None:
    exported.save_pretrained(tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"artifact.json", "config.json", "export.json", "model.onnx"}
    assert load_artifact(tmp_path / "out").lineage["parity"]["fp32"] < TOLERANCE
    opened = ExportedModel.from_pretrained(tmp_path / "out", threads=2)
    assert opened.config.model_type == "bert"
    assert opened.runners["model"].session.settings()["threads"] == 2
    with torch.no_grad():
        assert_same(opened(**text_batch()), bert(**text_batch()))
    with pytest.raises(TypeError, match="Unknown kwargs"):
        ExportedModel.from_pretrained(tmp_path / "out", providers=[])


def test_a_damaged_export_is_refused(exported: Any, tmp_path: Path) -> None:
    exported.save_pretrained(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.onnx is corrupt"):
        ExportedModel.from_pretrained(tmp_path)


def test_a_folded_module_of_ones_own_in_int8() -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    batch = {"input": torch.randn(6, 8, generator=torch.Generator().manual_seed(0))}
    config = EdgefoldConfig(precision="int8", calibration=[batch])
    found = EdgefoldExporter().export(module, batch, config)
    assert found.program.artifact.precision == "int8"
    with torch.no_grad():
        torch.testing.assert_close(found(**batch), module(**batch), rtol=0, atol=0.1)
    recorded = found.components["model"].metadata.export_config
    assert (recorded["precision"], recorded["calibration"]) == ("int8", None)
    assert AutoExportConfig.from_dict(recorded) == EdgefoldConfig(precision="int8")


def test_what_cannot_be_exported_so_is_refused(bert: Any, text_batch: Make) -> None:
    exporter, unfolded = EdgefoldExporter(), nn.Linear(2, 2)
    unfolded.edgefold_unfolded = True  # as that of every student
    with pytest.raises(InputError, match=r"call edgefold\.fold\(student\) first"):
        exporter.export(unfolded, {"input": torch.ones(2, 2)}, {})
    with pytest.raises(InputError, match=r"a forward of tensors; return_dict is none"):
        exporter.export(bert, {**text_batch(), "return_dict": True}, {})
    with pytest.raises(InputError, match=r"edgefold\.exporters\.export_generator\(model, inputs, out\)"):
        exporter.export_for_generation(bert, text_batch(), {})


def test_a_transformers_without_backends_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_backend, "import_module", lambda name: ModuleType(name))
    with pytest.raises(InputError, match=r"has no register_backend .* from 5\.23 on: pip install"):
        register_edgefold()
