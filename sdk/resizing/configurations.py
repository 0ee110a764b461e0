"""A Hugging Face model at other sizes, by its configuration: integer fields are tried until the shapes are right.

No table of field names: a field is a candidate when it equals an old size.
"""

import copy
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

from torch import Tensor, nn

from edgefold.dimensions import DimensionGraph
from edgefold.resizing.agreement import agreeing_trace, predicted_shapes, replacements
from edgefold.resizing.fields import MAX_TRIALS, build_like, check_configuration, parameter_shapes
from edgefold.resizing.layouts import Factor


def solve_configuration(
    model: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], changed: Mapping[str, int]
) -> tuple[nn.Module, dict[str, int], DimensionGraph] | None:
    """The class at a configuration with other integer fields, the new size of every dimension that changes, its graph.

    Fields that equal an old size are tried, as few of them changed as will do. None where none will.
    """
    config: Any = model.config
    for fields in _candidates(config, graph, changed):
        sizes = _configured_sizes(model, graph, changed, fields)
        if sizes is None:
            continue
        module = build_like(model, _with_fields(config, fields)).eval()
        traced = agreeing_trace(module, graph, inputs, sizes)
        if traced is not None:
            return module, sizes, traced
    return None


def _candidates(config: Any, graph: DimensionGraph, changed: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Assignments of integer fields; then those with one field more that the configuration leaves open (None)."""
    choices = _field_choices(config, graph, changed)
    assignments = sorted(
        product(*([(name, value) for value in values] for name, values in choices.items())),
        key=lambda fields: sum(value != getattr(config, name) for name, value in fields),
    )[:MAX_TRIALS]
    yield from (dict(fields) for fields in assignments)
    unset = [name for name, value in config.to_dict().items() if value is None and hasattr(config, name)]
    sizes = dict.fromkeys(changed.values())
    for name, size in islice(product(unset, sizes), MAX_TRIALS // 4):
        yield from ({**dict(fields), name: size} for fields in assignments[-4:])


def _field_choices(config: Any, graph: DimensionGraph, changed: Mapping[str, int]) -> dict[str, list[int]]:
    """For each integer field that equals an old size: the new sizes it may take, and its own."""
    new = replacements(graph, changed)
    return {
        name: [*new[value], value]
        for name, value in config.to_dict().items()
        if isinstance(value, int) and not isinstance(value, bool) and value in new and hasattr(config, name)
    }


def _with_fields(config: Any, fields: Mapping[str, int]) -> Any:
    resized = copy.deepcopy(config)
    for name, value in fields.items():
        setattr(resized, name, value)
    return resized


def _configured_sizes(
    model: nn.Module, graph: DimensionGraph, changed: Mapping[str, int], fields: Mapping[str, int]
) -> dict[str, int] | None:
    """The dimension sizes under these fields if every parameter then has a predictable shape, else None.

    A dimension that the plan leaves alone but the configuration ties to another (a pooler as wide as the residual
    stream) follows, where a selection can make it do so: from the same old size to the same new one, no other.
    """
    try:
        config = _with_fields(model.config, fields)
        check_configuration(config)
    except Exception:  # a combination that the configuration itself refuses
        return None
    shapes = parameter_shapes(type(model), config)
    if shapes is None:
        return None
    sizes = dict(changed)
    for name, predicted in predicted_shapes(graph, sizes).items():
        for axis, (is_size, was_size) in enumerate(zip(shapes.get(name, ()), predicted, strict=False)):
            factors = graph.layouts[name][axis]
            if is_size != was_size and len(factors) == 1 and _may_follow(graph, factors[0], is_size, sizes):
                sizes[factors[0].dimension] = is_size
    expected = predicted_shapes(graph, sizes)
    return sizes if all(shapes[name] == expected[name] for name in shapes if name in expected) else None


def _may_follow(graph: DimensionGraph, factor: Factor, size: int, sizes: Mapping[str, int]) -> bool:
    is_free = not factor.parts and factor.dimension not in sizes
    same_change = any(graph[name].size == factor.size and new == size < factor.size for name, new in sizes.items())
    return is_free and same_change and graph[factor.dimension].kind == "permutation"
