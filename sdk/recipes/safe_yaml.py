"""YAML that is safe and strict: no objects, no duplicate keys, and the line of everything that is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from edgefold.errors import InputError


@dataclass(frozen=True)
class YamlDocument:
    """Plain data and the nodes it came from."""

    data: Any
    root: yaml.Node | None

    def line(self, path: Sequence[int | str]) -> int | None:
        """The line (from 1) of the deepest node that the path reaches."""
        node = self.root
        for part in path:
            child = _child(node, part)
            if child is None:
                break
            node = child
        return node.start_mark.line + 1 if node else None


def parse_yaml(text: str, source: str) -> YamlDocument:
    """Read one YAML document.

    Raises:
        InputError: a syntax error, a duplicate key or a tag that would build an object, each with its line.
    """
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return YamlDocument(None, None)
        _refuse_duplicates(root, source)
        return YamlDocument(loader.construct_document(root), root)
    except InputError:  # a ValueError too
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"{source}{where}: not valid YAML: {error.problem or error.context}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: not valid YAML: {' '.join(str(error).split())}.") from None


def _refuse_duplicates(root: yaml.Node, source: str) -> None:
    """PyYAML keeps the last of two equal keys; a recipe that says two things is refused."""
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            _refuse_duplicate_keys(node, source)
            pending.extend(value for _, value in node.value)


def _refuse_duplicate_keys(node: yaml.MappingNode, source: str) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        name = str(key.value)
        if name in lines:
            raise InputError(
                f"{source}, line {line}: the key {name} stands there already on line {lines[name]}; keep one."
            )
        lines[name] = line


def _child(node: yaml.Node | None, part: int | str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        # The key's own line for a scalar, so that a multi-line section is not named by its first entry.
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found = node.value[part]
        return found if isinstance(found, yaml.Node) else None
    return None
