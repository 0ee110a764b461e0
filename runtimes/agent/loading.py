"""Importing from a table of sources: how one file carries the whole agent."""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any


class Sources(MetaPathFinder, Loader):
    """Finds and runs modules by name.

    Args:
        sources: dotted name -> source text; a name that others begin with is a package.
    """

    def __init__(self, sources: dict[str, str]) -> None:
        self._sources = sources

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname not in self._sources:
            return None
        is_package = any(name.startswith(fullname + ".") for name in self._sources)
        return spec_from_loader(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        exec(compile(self._sources[name], f"<edgefold-agent>/{name}", "exec", dont_inherit=True), module.__dict__)


def install(sources: dict[str, str]) -> None:
    """Import these modules from now on, before any that are installed."""
    sys.meta_path.insert(0, Sources(sources))
