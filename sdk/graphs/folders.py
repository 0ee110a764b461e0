"""The files of a traced student in its folder: the graph as JSON, the tensors that only the graph has beside it."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.fx import GraphModule

from edgefold.errors import InputError
from edgefold.graphs.files import build_graph, describe_graph, trace_plain
from edgefold.tracing.tied_state import other_names

GRAPH = "graph.json"
GRAPH_TENSORS = "graph.safetensors"


def write_graph(
    folder: Path, plain: nn.Module, inputs: Mapping[str, Tensor] | None, saved: Mapping[str, Tensor]
) -> None:
    """Trace a plain module, unless it is a graph already, and write it.

    Args:
        saved: the tensors that the folder's weights file has; the graph names them, and adds what it has of its own.

    Raises:
        InputError: as `trace_plain` and `describe_graph`.
    """
    graph = plain if isinstance(plain, GraphModule) else trace_plain(plain, inputs or {})
    description, tensors = describe_graph(graph)
    first = other_names(plain)
    keys, added = dict[str, str](), dict[str, Tensor]()
    for name, tensor in tensors.items():
        keys[name] = first.get(name, name)
        if keys[name] not in saved or not _same(saved[keys[name]], tensor):
            keys[name] = f"graph/{name}"
            added[keys[name]] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    content = {**description, "tensors": keys}
    (folder / GRAPH).write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
    if added:
        save_file(added, folder / GRAPH_TENSORS)


def read_graph(folder: Path, saved: Mapping[str, Tensor]) -> GraphModule:
    """The module that `write_graph` wrote, in evaluation mode.

    Raises:
        InputError: a file is malformed or calls what is not allowed.
    """
    try:
        content = json.loads((folder / GRAPH).read_text(encoding="utf-8"))
        added = load_file(folder / GRAPH_TENSORS) if (folder / GRAPH_TENSORS).is_file() else {}
        stored = {**saved, **added}
        return build_graph(content, {name: stored[key] for name, key in content["tensors"].items()})
    except (ValueError, KeyError, OSError, SafetensorError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"The graph in {folder} is malformed ({error!r}); restore the folder or make the student again."
        ) from None


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.cpu(), b.detach().cpu())
