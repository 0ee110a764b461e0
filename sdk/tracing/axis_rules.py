"""One rule per operator: which axes of its operands carry the same coordinates, and what runs along them.

A rule receives the tracer and the node and returns the axes of the node's output. An operator without a rule makes
every axis it touches fixed, and says so: never wrong, never a crash.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from edgefold.tracing.axis_tracer import Axes, AxisTracer, all_sizes, place, sizes
from edgefold.tracing.elementwise_rules import (
    add,
    constant,
    copied,
    divide,
    filled,
    gated_half,
    masked_fill,
    multiply,
    norm_reduction,
    nothing,
    ordered,
    pointwise,
    prelu,
    reduction,
    reduction_with_places,
    same,
    softmax,
    unknown,
    where,
)
from edgefold.tracing.lookup_rules import (
    embedding,
    embedding_bag,
    gather,
    index,
    index_add,
    index_put,
    index_select,
    scatter,
    scatter_at,
)
from edgefold.tracing.norm_rules import (
    batch_norm,
    group_norm,
    layer_norm,
    rms_norm,
    weight_norm,
    weight_norm_pair,
    written_norm_end,
)
from edgefold.tracing.product_rules import addmm, attention, bilinear, convolution, einsum, linear, matmul, pooling
from edgefold.tracing.recurrent_rules import recurrent, recurrent_cell
from edgefold.tracing.routing_rules import argsort, counts, grouped_product, sort, top
from edgefold.tracing.shape_rules import (
    concatenate,
    expand,
    item,
    move,
    narrow,
    pad,
    permute,
    repeat,
    repeat_interleave,
    reshape,
    reshape_like,
    reversed_axes,
    select,
    split,
    squeeze,
    stack,
    take,
    transpose,
    unbind,
    unsqueeze,
)
from edgefold.tracing.window_rules import (
    channel_shuffle,
    columns,
    image_of_columns,
    pixel_shuffle,
    pixel_unshuffle,
    windows,
)

Rule = Callable[[AxisTracer, Node], "Axes | None"]


def visit(tracer: AxisTracer, node: Node) -> None:
    """Compute and store the axes of a call; whatever a rule cannot express becomes fixed."""
    rule = written_norm_end if node in tracer.norm_ends else find_rule(node)
    try:
        axes = rule(tracer, node)
    except (IndexError, KeyError, TypeError, ValueError):  # operands in a form that the rule does not know
        axes = unknown(tracer, node)
    if axes is not None and [tracer.spaces.size(axis) for axis in axes] != sizes(node):
        axes = unknown(tracer, node)
    if axes is not None:
        tracer.axes[node] = axes
    if node in tracer.tuples or not sizes(node):
        _check_tuple(tracer, node)
    if all(source in tracer.static for source in node.all_input_nodes):
        tracer.static.add(node)


def find_rule(node: Node) -> Rule:
    """The table's rule; element by element where torch says so; else `unknown`."""
    rule = RULES.get(node.target) or NAMED.get(str(node.target))
    if rule is None:
        tags = getattr(node.target, "tags", ())
        rule = pointwise if torch.Tag.pointwise in tags else unknown
    return rule


def _check_tuple(tracer: AxisTracer, node: Node) -> None:
    """An operator with several outputs has axes for each, of the right sizes."""
    if not isinstance(node.meta.get("val"), tuple | list):
        return
    found = tracer.tuples.get(node, [])
    shapes = all_sizes(node)
    if [[tracer.spaces.size(axis) for axis in axes] for axes in found] != shapes:
        unknown(tracer, node)
        reason = f"no rule for {place(node)}"
        tracer.tuples[node] = [[tracer.spaces.new(size, reason) for size in shape] for shape in shapes]


aten = torch.ops.aten
_GROUPS: dict[Rule, tuple[Any, ...]] = {
    linear: (aten.linear.default,),
    bilinear: (aten.bilinear.default,),
    addmm: (aten.addmm.default, aten.baddbmm.default),
    matmul: (aten.matmul.default, aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default),
    einsum: (aten.einsum.default,),
    attention: (aten.scaled_dot_product_attention.default,),
    grouped_product: (aten._grouped_mm.default,),
    top: (aten.topk.default,),
    sort: (aten.sort.default, aten.sort.stable),
    argsort: (aten.argsort.default, aten.argsort.stable),
    counts: (aten.histc.default,),
    convolution: (
        aten.conv1d.default,
        aten.conv2d.default,
        aten.conv3d.default,
        aten.conv1d.padding,
        aten.conv2d.padding,
        aten.conv3d.padding,
        aten.conv_transpose1d.default,
        aten.conv_transpose2d.input,
        aten.conv_transpose3d.input,
        aten.convolution.default,
    ),
    pooling: (
        aten.max_pool1d.default,
        aten.max_pool2d.default,
        aten.max_pool3d.default,
        aten.max_pool2d_with_indices.default,
        aten.avg_pool1d.default,
        aten.avg_pool2d.default,
        aten.avg_pool3d.default,
        aten.adaptive_avg_pool1d.default,
        aten.adaptive_avg_pool2d.default,
        aten.adaptive_avg_pool3d.default,
        aten.adaptive_max_pool2d.default,
        aten.upsample_nearest1d.vec,
        aten.upsample_nearest2d.vec,
        aten.upsample_linear1d.vec,
        aten.upsample_bilinear2d.vec,
        aten.upsample_bicubic2d.vec,
        aten.upsample_trilinear3d.vec,
        aten.upsample_nearest3d.vec,
        aten._upsample_bicubic2d_aa.vec,
        aten._upsample_bilinear2d_aa.vec,
        aten.upsample_nearest2d.default,
        aten.upsample_bilinear2d.default,
    ),
    recurrent: (aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input),
    recurrent_cell: (
        aten.lstm_cell.default,
        aten.gru_cell.default,
        aten.rnn_tanh_cell.default,
        aten.rnn_relu_cell.default,
    ),
    pixel_shuffle: (aten.pixel_shuffle.default,),
    pixel_unshuffle: (aten.pixel_unshuffle.default,),
    channel_shuffle: (aten.channel_shuffle.default, aten.native_channel_shuffle.default),
    columns: (aten.im2col.default,),
    image_of_columns: (aten.col2im.default,),
    windows: (aten.unfold.default,),
    layer_norm: (aten.layer_norm.default,),
    rms_norm: (aten.rms_norm.default,),
    group_norm: (aten.group_norm.default,),
    batch_norm: (aten.batch_norm.default, aten.instance_norm.default),
    weight_norm: (aten._weight_norm.default,),
    weight_norm_pair: (aten._weight_norm_interface.default,),
    embedding: (aten.embedding.default,),
    embedding_bag: (aten.embedding_bag.padding_idx, aten.embedding_bag.default, aten._embedding_bag.default),
    index: (aten.index.Tensor,),
    index_select: (aten.index_select.default,),
    gather: (aten.gather.default,),
    index_add: (aten.index_add.default, aten.index_add_.default),
    scatter_at: (
        aten.scatter.value,
        aten.scatter.src,
        aten.scatter_.value,
        aten.scatter_.src,
        aten.scatter_add.default,
    ),
    index_put: (aten.index_put.default, aten.index_put_.default),
    scatter: (aten.slice_scatter.default, aten.select_scatter.default),
    reduction: (
        aten.mean.dim,
        aten.mean.default,
        aten.sum.dim_IntList,
        aten.sum.default,
        aten.amax.default,
        aten.amin.default,
        aten.logsumexp.default,
        aten.prod.dim_int,
        aten.any.dim,
        aten.all.dim,
        aten.var.correction,
        aten.std.correction,
        aten.var.dim,
        aten.std.dim,
        aten.argmax.default,
        aten.argmin.default,
    ),
    reduction_with_places: (aten.max.dim, aten.min.dim),
    copied: (aten.copy_.default,),
    norm_reduction: (aten.linalg_vector_norm.default, aten.norm.ScalarOpt_dim),
    softmax: (aten.softmax.int, aten.log_softmax.int, aten._softmax.default, aten._log_softmax.default),
    ordered: (aten.cumsum.default, aten.flip.default, aten.roll.default, aten.triu.default, aten.tril.default),
    add: (aten.add.Tensor, aten.add_.Tensor, aten.sub.Tensor, aten.sub_.Tensor),
    multiply: (aten.mul.Tensor, aten.mul_.Tensor),
    gated_half: (aten.glu.default,),
    divide: (aten.div.Tensor, aten.div_.Tensor),
    masked_fill: (aten.masked_fill.Scalar, aten.masked_fill_.Scalar),
    where: (aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf),
    same: (
        aten.neg.default,
        aten.dropout.default,
        aten.dropout_.default,
        aten.native_dropout.default,
        aten.feature_dropout.default,
        aten.alpha_dropout.default,
        aten.contiguous.default,
        aten.clone.default,
        aten.detach.default,
        aten.detach_.default,
        aten.alias.default,
        aten.lift_fresh_copy.default,
        aten.to.dtype,
        aten.to.device,
        aten.to.dtype_layout,
        aten.to.other,
        aten.type_as.default,
        aten._to_copy.default,
        aten.zeros_like.default,
        aten.zero_.default,
    ),
    reshape: (
        aten.view.default,
        aten.reshape.default,
        aten.flatten.using_ints,
        aten.unflatten.int,
        aten._unsafe_view.default,
    ),
    reshape_like: (aten.view_as.default, aten.reshape_as.default),
    permute: (aten.permute.default,),
    move: (aten.movedim.int, aten.movedim.intlist),
    transpose: (
        aten.transpose.int,
        aten.swapaxes.default,
        aten.swapdims.default,
        aten.t.default,
        aten.mT.default,
        aten.matrix_H.default,
    ),
    reversed_axes: (aten.numpy_T.default,),
    unsqueeze: (aten.unsqueeze.default, aten.unsqueeze_.default),
    squeeze: (aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default),
    expand: (aten.expand.default, aten.expand_as.default, aten.broadcast_to.default),
    repeat: (aten.repeat.default, aten.tile.default),
    repeat_interleave: (aten.repeat_interleave.self_int,),
    take: (aten.slice.Tensor,),
    narrow: (aten.narrow.default,),
    select: (aten.select.int,),
    split: (
        aten.split.Tensor,
        aten.split.sizes,
        aten.split_with_sizes.default,
        aten.chunk.default,
        aten.tensor_split.sections,
        aten.tensor_split.indices,
    ),
    unbind: (aten.unbind.int,),
    item: (operator.getitem,),
    concatenate: (aten.cat.default, aten.concat.default),
    stack: (aten.stack.default,),
    pad: (
        aten.pad.default,
        aten.constant_pad_nd.default,
        aten.reflection_pad2d.default,
        aten.replication_pad2d.default,
    ),
    filled: (
        aten.zeros.default,
        aten.ones.default,
        aten.full.default,
        aten.empty.memory_format,
        aten.new_ones.default,
        aten.new_zeros.default,
        aten.new_full.default,
        aten.new_empty.default,
        aten.scalar_tensor.default,
    ),
    constant: (
        aten.arange.default,
        aten.arange.start,
        aten.arange.start_step,
        aten.linspace.default,
        aten.eye.default,
        aten.eye.m,
        aten.one_hot.default,
    ),
    prelu: (aten.prelu.default,),
    pointwise: (
        aten.relu_.default,
        aten.hardtanh_.default,
        aten.silu_.default,
        aten.leaky_relu_.default,
        aten.elu_.default,
        aten.ones_like.default,
        aten.full_like.default,
        aten.fill_.Scalar,
        aten.fill.Scalar,
        aten.empty_like.default,
        aten.relu6.default,
        aten.gelu.default,
        aten.silu.default,
        aten.mish.default,
        aten.selu.default,
        aten.softplus.default,
        aten.hardswish.default,
        aten.hardswish_.default,
        aten.hardsigmoid.default,
        aten.rsub.Scalar,
        aten.addcmul.default,
        aten.addcdiv.default,
        aten.lerp.Tensor,
        aten.lerp.Scalar,
    ),
    nothing: (
        aten._assert_tensor_metadata.default,
        aten._assert_async.msg,
        aten._assert_scalar.default,
        aten.sym_constrain_range_for_size.default,
        aten.sym_constrain_range.default,
        aten.sym_size.int,
        aten.item.default,
    ),
}
"""Rule -> the operators it holds for."""
RULES: dict[Any, Rule] = {target: rule for rule, targets in _GROUPS.items() for target in targets}
NAMED: dict[str, Rule] = {"transformers.grouped_mm_fallback.default": grouped_product}
"""Rules for operators of other libraries, which exist only once these are imported."""
