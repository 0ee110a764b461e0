"""SessionRunner: an artifact run by our session, as transformers.exporters runs what it has exported."""

from typing import Any

import torch
from transformers.exporters.metadata import ExportMetadata
from transformers.exporters.runners.base import ModelRunner

from edgefold.integrations.transformers_exporter import ArtifactProgram
from edgefold.runtimes import open_session
from edgefold.runtimes.sessions import Session


class SessionRunner(ModelRunner):
    """Tensors in, the model's own outputs out. The session is closed with the process, or by `session.close()`."""

    def __init__(self, metadata: ExportMetadata, session: Session, program: ArtifactProgram) -> None:
        super().__init__(metadata)
        self.session = session
        self._program = program  # whose folder must stay as long as the session reads it

    @property
    def device(self) -> torch.device:
        return torch.device(self.session.device)

    @classmethod
    def from_program(
        cls,
        program: ArtifactProgram,
        metadata: ExportMetadata,
        device: Any = None,
        runtime: str = "onnxruntime",
        threads: int = 1,
    ) -> "SessionRunner":
        """
        Args:
            device: "cpu" (by default) or "cuda".
            runtime: one of `edgefold.runtimes.sessions.RUNTIMES` that opens ONNX.

        Raises:
            InputError, DeviceError: as `open_session`.
        """
        kind = torch.device("cpu" if device is None else device).type
        session = open_session(program.artifact, device=kind, runtime=runtime, threads=threads)
        return cls(metadata, session, program)

    def __call__(self, share_inputs: bool = True, share_outputs: bool = False, **kwargs: Any) -> Any:
        """Run once. Inputs are read in place where they lie on the CPU; outputs are always their own.

        Raises:
            InputError: an input is missing, or a type or shape does not fit.
        """
        names = {spec.name for spec in self.session.inputs}
        feeds = {name: value.detach().cpu().numpy() for name, value in kwargs.items() if name in names}
        return self.unflatten([torch.from_numpy(value) for value in self.session.run(feeds).values()])
