"""How much memory a model takes on this machine: opened and run in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from edgefold.artifacts import Artifact, load_artifact
from edgefold.errors import EdgefoldError
from edgefold.reports import Memory
from edgefold.runtimes.agent.arrays import decode_arrays, encode_arrays
from edgefold.runtimes.agent.memory import weigh
from edgefold.runtimes.sessions import import_runtime, open_session, usual_runtime

LIMIT_S = 600
PROGRAM = "from edgefold.runtimes.memory_use import weigh_here; weigh_here()"


@dataclass(frozen=True)
class Opening:
    """How a session is opened."""

    device: str
    runtime: str | None
    threads: int
    spinning: bool
    provider: str | None = None
    io_binding: bool = False
    cuda_graph: bool = False
    tf32: bool = False


def measure_memory(artifact: Artifact, inputs: Mapping[str, NDArray[Any]], opening: Opening) -> Memory | None:
    """The peak of a fresh process that opens the artifact and runs it; None where the system does not tell.

    Raises:
        EdgefoldError: the process failed, and with what words.
    """
    request = {
        "folder": str(artifact.folder.resolve()),
        "model_file": artifact.model_file,
        "inputs": encode_arrays(inputs),
        "opening": asdict(opening),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise EdgefoldError(f"The memory of {artifact.folder} could not be measured: {said}.")
    found = json.loads(done.stdout.splitlines()[-1])
    return Memory(**found) if found else None


def weigh_here() -> None:
    """Answer one request on stdin; what is run in that process."""
    request = json.load(sys.stdin)
    opening = Opening(**request["opening"])
    inputs = decode_arrays(request["inputs"])
    whole = load_artifact(request["folder"], verify=False)
    names = [name for name, part in whole.parts.items() if part.model_file == request["model_file"]]
    artifact = whole.part(names[0]) if names else whole
    import_runtime(opening.runtime or usual_runtime(artifact, opening.device))
    print(json.dumps(weigh(lambda: open_session(artifact, **asdict(opening)), lambda session: session.run(inputs))))
