"""pass_over(graph): what every converted graph goes through, whatever it is for."""

import onnx_ir

from edgefold.exporters.computed_weights import store_computed
from edgefold.exporters.cpu_graph import keep_layer_norms_apart
from edgefold.exporters.flat_gathers import flatten_mask_gathers
from edgefold.exporters.recurrences import gather_weights
from edgefold.exporters.transposed_weights import store_transposed


def pass_over(graph: onnx_ir.Model) -> None:
    """In place: weights become constants as their readers want them, and what runtimes handle badly is rewritten."""
    gather_weights(graph)
    store_computed(graph)
    keep_layer_norms_apart(graph)
    store_transposed(graph)
    flatten_mask_gathers(graph)
