"""The torch model that `edgefold bench --against-torch` measures beside an artifact."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.artifacts import Artifact
from edgefold.cli.models import open_model
from edgefold.errors import InputError
from edgefold.exporters.causal_decoders import causal_part
from edgefold.runtimes import Session, open_torch_baseline
from edgefold.tracing.key_value_caches import caches_off


class TorchRival:
    """A student or checkpoint in torch, over the inputs and outputs of an artifact, in float32.

    Args:
        compiled: whether by torch.compile.

    Raises:
        InputError: a folder that cannot be opened, or whose model does not take what the artifact takes.
    """

    def __init__(self, folder: Path, artifact: Artifact, compiled: bool) -> None:
        self.label = f"{folder} ({'torch.compile' if compiled else 'torch'})"
        self.size_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        self._artifact, self._compiled = artifact, compiled
        model = open_model(folder)
        self._module = StepByStep(model) if artifact.generation else model
        if not artifact.generation:
            _check_inputs(folder, model, artifact)

    @contextmanager
    def opened(self, device: str, threads: int, tf32: bool) -> Iterator[Session]:
        """A session for the time of a block; what torch.compile has made before is forgotten.

        For more than eight shapes of one function torch would go back to eager, and say so in a warning alone.
        """
        torch.compiler.reset()
        ends = self._artifact.inputs, self._artifact.outputs
        options: Any = {"device": device, "threads": threads, "tf32": tf32, "compiled": self._compiled}
        with caches_off(self._module), open_torch_baseline(self._module, *ends, label=self.label, **options) as session:
            yield session


class StepByStep(nn.Module):
    """A causal language model that passes keys and values from step to step, under the names that artifacts have."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.part = causal_part(model).module

    def forward(self, **inputs: Tensor) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = self.part(inputs)
        return found


def _check_inputs(folder: Path, model: nn.Module, artifact: Artifact) -> None:
    """By name: what `**kwargs` swallows would be measured as if it had been computed with."""
    taken = signature(model.forward).parameters
    if missing := [spec.name for spec in artifact.inputs if spec.name not in taken]:
        raise InputError(
            f"{artifact.folder} takes {missing[0]}, which the forward of {folder} ({type(model).__name__}) does not; "
            "give the folder that the artifact was exported from, or a model that takes the same inputs."
        )
