"""EdgefoldExporter: export_onnx behind the interface of transformers.exporters; its program is an artifact."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_structure
from transformers.exporters.base import HfExporter
from transformers.exporters.configs import ExportConfigMixin
from transformers.exporters.metadata import ExportMetadata, build_export_metadata, record_output_structure

from edgefold.artifacts import MANIFEST, Artifact, Precision, load_artifact, write_artifact
from edgefold.errors import InputError
from edgefold.exporters.onnx import MODEL_FILE, export_onnx
from edgefold.exporters.quantization import Quantization
from edgefold.tracing.key_value_caches import caches_off

FORMAT = "edgefold"


@dataclass
class EdgefoldConfig(ExportConfigMixin):
    """Arguments of `edgefold.exporters.export_onnx`, by its names."""

    export_format: str = FORMAT
    precision: Precision = "fp32"
    target: str = "cpu-x86"
    quantization: Quantization = "static"
    calibration: Iterable[Mapping[str, Tensor]] | None = None
    """Batches for static int8; not recorded in export.json."""
    opset: int | None = None
    tolerance: float = 1e-4

    def to_json_string(self) -> str:
        if self.calibration is None:
            return super().to_json_string()
        return replace(self, calibration=None).to_json_string()


@dataclass(frozen=True)
class ArtifactProgram:
    """What was exported, and the temporary folder where it stands until it is saved."""

    artifact: Artifact
    folder: "TemporaryDirectory[str] | None" = None


@dataclass(frozen=True)
class _Specs:
    in_spec: TreeSpec
    out_spec: TreeSpec


@dataclass(frozen=True)
class _Traced:
    """As much of an exported program as transformers records."""

    call_spec: _Specs


class EdgefoldExporter(HfExporter):
    """One graph without a cache, checked against torch; `precision`, `target` and the rest by `EdgefoldConfig`."""

    export_format = FORMAT
    config_class = EdgefoldConfig
    program_suffix = ".onnx"
    required_packages = ["torch", "onnx", "onnxscript", "onnxruntime"]  # noqa: RUF012  # as its base class has it

    def export_program(
        self, model: Any, sample_inputs: Mapping[str, Any], config: Any
    ) -> tuple[ArtifactProgram, ExportMetadata]:
        """
        Raises:
            InputError: as `export_onnx`, and where an input is no tensor.
            GateError: the graph does not compute what torch computes.
        """
        others = [name for name, value in sample_inputs.items() if not isinstance(value, Tensor)]
        if others:
            raise InputError(f"edgefold exports a forward of tensors; {', '.join(others)} is none. Leave it out.")
        folder = TemporaryDirectory(prefix="edgefold-")
        fields = {name: value for name, value in config if name != "export_format"}
        artifact = export_onnx(model, sample_inputs, Path(folder.name, "artifact"), **fields)
        return ArtifactProgram(artifact, folder), _describe(model, sample_inputs)

    def export_for_generation(self, *arguments: Any, **options: Any) -> NoReturn:
        """
        Raises:
            InputError: always; with a cache it is `export_generator` that exports.
        """
        raise InputError(
            "As a backend of transformers edgefold exports single graphs; a model that generates is exported with its "
            "cache by edgefold.exporters.export_generator(model, inputs, out)."
        )

    @classmethod
    def save_program(cls, program: ArtifactProgram, path: str | Path) -> None:
        """The artifact's graphs into the folder of `path`, and its manifest, so that edgefold opens that folder."""
        artifact, folder = program.artifact, Path(path).parent
        for name in artifact.model_files:
            shutil.copyfile(artifact.folder / name, folder / name)
        facts: dict[str, Any] = {
            name: getattr(artifact, name)
            for name in ("format", "precision", "target", "model_file", "inputs", "outputs", "task", "lineage")
        }
        write_artifact(folder, **facts)

    @classmethod
    def load_program(cls, path: str | Path) -> ArtifactProgram:
        """
        Raises:
            InputError: no artifact there, or a file that is missing or corrupt.
        """
        return ArtifactProgram(load_artifact(Path(path).parent))

    @classmethod
    def program_files(cls, filename: str) -> list[str]:
        return [filename, MANIFEST]


assert f"model{EdgefoldExporter.program_suffix}" == MODEL_FILE  # what transformers calls the only graph of an export


def _describe(model: nn.Module, inputs: Mapping[str, Tensor]) -> ExportMetadata:
    """How inputs and outputs are nested, by running the model once."""
    training = model.training
    with caches_off(model), torch.no_grad():
        outputs = model.eval()(**inputs)
    model.train(training)
    traced = _Traced(_Specs(tree_structure(((), dict(inputs))), tree_structure(outputs)))
    metadata: ExportMetadata = build_export_metadata(
        model, inputs, traced, packages=("edgefold", "onnx", "onnxruntime")
    )
    record_output_structure(metadata, outputs)
    return metadata
