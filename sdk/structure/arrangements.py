"""How a student's modules are arranged beyond their sizes: layers kept, parameters shared, bottlenecks; as JSON."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from edgefold.structure.bottlenecks import BottleneckLayer, attach, bottlenecks_of
from edgefold.structure.layer_sharing import share_by_name, shared_names
from edgefold.structure.stacks import find_stacks, is_stack, layers_of, set_layers

Settings = Mapping[str, bool | float | str]


def describe_arrangement(plain: nn.Module) -> dict[str, Any]:
    """What `arrange` and `share` need to make the original architecture into this one."""
    stacks = find_stacks(plain)
    return {
        "layers": {stack.path: stack.depth for stack in stacks},
        "settings": {path: found for stack in stacks for path, found in _settings(plain, stack.path).items()},
        "shared": shared_names(plain),
        "bottlenecks": {path: _bottleneck_arguments(layer) for path, layer in bottlenecks_of(plain).items()},
    }


def arrange(skeleton: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """Shorten lists of layers, set what distinguishes their layers, add bottlenecks; in place."""
    modules = dict(skeleton.named_modules())
    for path, depth in record.get("layers", {}).items():
        if path in modules and is_stack(modules[path]) and len(layers_of(modules[path])) > depth:
            set_layers(modules[path], layers_of(modules[path])[:depth])
            _set(skeleton, path, record["settings"])
    for path, arguments in record.get("bottlenecks", {}).items():
        attach(skeleton, path, BottleneckLayer(**arguments))
    return skeleton


def share(skeleton: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """Let every name of a shared parameter stand for one parameter; in place, once all have their shapes."""
    share_by_name(skeleton, record.get("shared", {}))
    return skeleton


def _settings(plain: nn.Module, stack: str) -> dict[str, Settings]:
    """The switches, numbers and words that the modules of a stack hold as public attributes."""
    found = {
        path: {name: value for name, value in vars(module).items() if _is_setting(name, value)}
        for path, module in plain.named_modules()
        if _lies_in(path, stack)
    }
    return {path: settings for path, settings in found.items() if settings}


def _is_setting(name: str, value: object) -> bool:
    return not name.startswith("_") and name != "training" and isinstance(value, bool | float | str)


def _set(skeleton: nn.Module, stack: str, settings: Mapping[str, Settings]) -> None:
    modules = dict(skeleton.named_modules())
    for path, values in settings.items():
        if path in modules and _lies_in(path, stack):
            for name, value in values.items():
                setattr(modules[path], name, value)


def _lies_in(path: str, stack: str) -> bool:
    return path.startswith(f"{stack}.") if stack else bool(path)


def _bottleneck_arguments(layer: BottleneckLayer) -> dict[str, Any]:
    return {
        "features": layer.up.out_features,
        "size": layer.down.out_features,
        "activation": layer.activation,
        "residual": layer.residual,
    }
