"""Small ONNX graphs made by hand, for tests of what reads graphs: an encoder, a decoder with a cache, a conv net."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgefold.artifacts import Artifact, TensorSpec, write_artifact

Shape = Sequence[int | str]
WIDTH, HEADS, VOCABULARY = 16, 2, 30


def value(name: str, shape: Shape | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Mapping[str, NDArray[Any]] | None = None,
    opset: int = 20,
    ir_version: int = 10,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), tensors)
    domains = {node.domain for node in nodes} - {""}
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def one_node(operator: str, kind: int = TensorProto.FLOAT, opset: int = 20, **attributes: Any) -> onnx.ModelProto:
    """y = operator(x), x: (batch, 8)."""
    node = helper.make_node(operator, ["x"], ["y"], name=f"the_{operator}", **attributes)
    return model_of([node], [value("x", ("batch", 8), kind)], [value("y", ("batch", 8))], opset=opset)


def product(opset: int = 20, kind: type[np.generic] = np.float32, **model: Any) -> onnx.ModelProto:
    """y = x W, x: (batch, 8)."""
    weight = np.random.default_rng(0).normal(size=(8, 8)).astype(kind)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    ends = ([value("x", ("batch", 8), number)], [value("y", ("batch", 8), number)])
    return model_of(nodes, *ends, {"w": weight}, opset, **model)


class Builder:
    """Nodes one after another; each method returns the name of what its node makes."""

    def __init__(self, kind: type[np.generic] = np.float32, quantized: bool = False) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.kind, self.quantized = kind, quantized
        self._random = np.random.default_rng(0)

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def weight(self, *shape: int) -> NDArray[Any]:
        return (self._random.normal(size=shape) / np.sqrt(shape[0])).astype(self.kind)

    def linear(self, x: str, rows: int, columns: int) -> str:
        """x W, in int8 with QDQ pairs where asked: per tensor for x, per output channel for W."""
        weight = self.weight(rows, columns)
        if not self.quantized:
            return self.add("MatMul", x, self.constant(weight))
        scale, zero = self.constant(np.array(0.05, self.kind)), self.constant(np.array(0, np.int8))
        x = self.add("DequantizeLinear", self.add("QuantizeLinear", x, scale, zero), scale, zero)
        scales = (np.abs(weight).max(axis=0) / 127).astype(self.kind)
        integers = self.constant(np.rint(weight / scales).astype(np.int8))
        zeros = self.constant(np.zeros(columns, np.int8))
        return self.add("MatMul", x, self.add("DequantizeLinear", integers, self.constant(scales), zeros, axis=1))

    def norm(self, x: str) -> str:
        ones, zeros = np.ones(WIDTH, self.kind), np.zeros(WIDTH, self.kind)
        return self.add("LayerNormalization", x, self.constant(ones), self.constant(zeros), axis=-1)

    def heads(self, x: str) -> str:
        """(batch, n, width) -> (batch, heads, n, width / heads)."""
        shape = self.constant(np.array([0, 0, HEADS, WIDTH // HEADS]))
        return self.add("Transpose", self.add("Reshape", x, shape), perm=[0, 2, 1, 3])

    def attend(self, query: str, key: str, content: str, bias: str | None) -> str:
        """softmax(q k' / sqrt(d) + bias) v, heads joined again."""
        scores = self.add("MatMul", query, self.add("Transpose", key, perm=[0, 1, 3, 2]))
        scores = self.add("Mul", scores, self.constant(np.array((WIDTH / HEADS) ** -0.5, self.kind)))
        weights = self.add("Softmax", self.add("Add", scores, bias) if bias else scores, axis=-1)
        joined = self.add("Transpose", self.add("MatMul", weights, content), perm=[0, 2, 1, 3])
        return self.add("Reshape", joined, self.constant(np.array([0, 0, WIDTH])))

    def finish(self, x: str, name: str) -> None:
        self.nodes.append(helper.make_node("Identity", [x], [name], name=f"give_{name}"))


def encoder(kind: type[np.generic] = np.float32, quantized: bool = False) -> onnx.ModelProto:
    """Ids and mask (batch, sequence) -> logits (batch, 3): one layer of a transformer, in float32 or float16."""
    b = Builder(kind, quantized)
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    x = b.norm(b.add("Gather", b.constant(b.weight(VOCABULARY, WIDTH)), "input_ids"))
    last = b.constant(np.array([1, 2]))
    mask = b.add("Unsqueeze", b.add("Cast", "attention_mask", to=number), last)
    away = b.add("Sub", b.constant(np.array(1, kind)), mask)
    bias = b.add("Mul", away, b.constant(np.array(-1e4, kind)))
    query, key, content = (b.heads(b.linear(x, WIDTH, WIDTH)) for _ in range(3))
    x = b.norm(b.add("Add", x, b.linear(b.attend(query, key, content, bias), WIDTH, WIDTH)))
    x = b.norm(b.add("Add", x, b.linear(b.add("Gelu", b.linear(x, WIDTH, 32)), 32, WIDTH)))
    first = b.add("Gather", x, b.constant(np.array(0)), axis=1)
    b.finish(b.linear(first, WIDTH, 3), "logits")
    ids = [value(name, ("batch", "sequence"), TensorProto.INT64) for name in ("input_ids", "attention_mask")]
    return model_of(b.nodes, ids, [value("logits", ("batch", 3), number)], b.constants)


def decoder() -> onnx.ModelProto:
    """Ids (batch, sequence) with the keys and values of `past` tokens -> logits, and keys and values of all."""
    b = Builder()
    x = b.norm(b.add("Gather", b.constant(b.weight(VOCABULARY, WIDTH)), "input_ids"))
    query, key, content = (b.heads(b.linear(x, WIDTH, WIDTH)) for _ in range(3))
    key = b.add("Concat", "past_key_values.0.key", key, axis=2)
    content = b.add("Concat", "past_key_values.0.value", content, axis=2)
    x = b.norm(b.add("Add", x, b.linear(b.attend(query, key, content, None), WIDTH, WIDTH)))
    b.finish(b.linear(x, WIDTH, VOCABULARY), "logits")
    b.finish(key, "present.0.key")
    b.finish(content, "present.0.value")
    cache = ("batch", HEADS, "past", WIDTH // HEADS)
    grown = ("batch", HEADS, "past + sequence", WIDTH // HEADS)
    kinds = ("key", "value")
    inputs = [value("input_ids", ("batch", "sequence"), TensorProto.INT64)]
    inputs += [value(f"past_key_values.0.{kind}", cache) for kind in kinds]
    outputs = [value("logits", ("batch", "sequence", VOCABULARY))]
    outputs += [value(f"present.0.{kind}", grown) for kind in kinds]
    return model_of(b.nodes, inputs, outputs, b.constants)


def conv_net() -> onnx.ModelProto:
    """Images (batch, 3, 16, 16) -> logits (batch, 5)."""
    b = Builder()
    x = b.add("Conv", "pixel_values", b.constant(b.weight(8, 3, 3, 3)), pads=[1, 1, 1, 1], strides=[2, 2])
    x = b.add("Relu", x)
    x = b.add("Relu", b.add("Conv", x, b.constant(b.weight(16, 8, 3, 3)), pads=[1, 1, 1, 1]))
    x = b.add("Flatten", b.add("GlobalAveragePool", x))
    b.finish(b.linear(x, 16, 5), "logits")
    return model_of(
        b.nodes, [value("pixel_values", ("batch", 3, 16, 16))], [value("logits", ("batch", 5))], b.constants
    )


def save_as_artifact(model: onnx.ModelProto, folder: Path, precision: Any = "fp32", **more: Any) -> Artifact:
    """The model in an artifact whose specs are the graph's."""

    def specs(values: Iterable[onnx.ValueInfoProto]) -> list[TensorSpec]:
        return [
            TensorSpec(
                name=entry.name,
                dtype=helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type).name,
                shape=tuple(d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim),
            )
            for entry in values
        ]

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    ends = {"inputs": specs(model.graph.input), "outputs": specs(model.graph.output)}
    facts: Any = {"format": "onnx", "precision": precision, "target": None, "model_file": "model.onnx"}
    return write_artifact(folder, **facts, **ends, **more)
