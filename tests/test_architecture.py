"""Who may import whom, in one table; and what must stay importable without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "edgefold": ROOT / "sdk",
    **{f"edgefold.{path.parent.name}": path.parent for path in sorted((ROOT / "sdk").glob("*/__init__.py"))},
    "edgefold.exporters": ROOT / "exporters",
    "edgefold.exporters.tensorrt": ROOT / "exporters" / "tensorrt",
    "edgefold.runtimes": ROOT / "runtimes",
    "edgefold.runtimes.agent": ROOT / "runtimes" / "agent",
    "edgefold.runtimes.remote": ROOT / "runtimes" / "remote",
    "optimum.commands.register": ROOT / "sdk" / "optimum_register",
}

ALLOWED = {
    "edgefold.runtimes": (
        "edgefold.runtimes",
        "edgefold.runtimes.agent",
        "edgefold.runtimes.remote",
        "edgefold.artifacts",
        "edgefold.reports",
        "edgefold.errors",
        "edgefold.device_states",
        "edgefold.gpu_states",
        "edgefold.openvino_modules",
        "edgefold.staging",
        "edgefold.tensorrt_modules",
    ),
    "edgefold.runtimes.agent": ("edgefold.runtimes.agent", "edgefold.openvino_modules"),
    "edgefold.runtimes.remote": (
        "edgefold.runtimes",
        "edgefold.runtimes.agent",
        "edgefold.runtimes.remote",
        "edgefold.artifacts",
        "edgefold.device_states",
        "edgefold.openvino_modules",
        "edgefold.reports",
        "edgefold.errors",
    ),
    "edgefold.exporters": (
        "edgefold.exporters",
        "edgefold.exporters.tensorrt",
        "edgefold",
        "edgefold.distillation",
        "edgefold.gates",
        "edgefold.graphs",
        "edgefold.masks",
        "edgefold.penalties",
        "edgefold.resizing",
        "edgefold.structure",
        "edgefold.teachers",
        "edgefold.tracing",
    ),
    "edgefold.exporters.tensorrt": (
        "edgefold.exporters.tensorrt",
        "edgefold.artifacts",
        "edgefold.errors",
        "edgefold.nvidia_driver",
        "edgefold.staging",
        "edgefold.tensorrt_modules",
    ),
    "edgefold": (
        "edgefold",
        "edgefold.distillation",
        "edgefold.gates",
        "edgefold.graphs",
        "edgefold.masks",
        "edgefold.penalties",
        "edgefold.resizing",
        "edgefold.starts",
        "edgefold.structure",
        "edgefold.teachers",
        "edgefold.tracing",
        "edgefold.vocabulary",
    ),
    "edgefold.budget": (
        "edgefold",
        "edgefold.budget",
        "edgefold.distillation",
        "edgefold.exporters",
        "edgefold.jobs",
        "edgefold.recipes",
        "edgefold.reporting",
        "edgefold.resizing",
        "edgefold.runtimes",
        "edgefold.scores",
        "edgefold.starts",
        "edgefold.structure",
        "edgefold.tasks",
        "edgefold.tracing",
    ),
    "edgefold.cli": (
        "edgefold",
        "edgefold.budget",
        "edgefold.cli",
        "edgefold.data",
        "edgefold.distillation",
        "edgefold.exporters",
        "edgefold.exporters.tensorrt",
        "edgefold.graphs",
        "edgefold.jobs",
        "edgefold.packaged",
        "edgefold.penalties",
        "edgefold.recipes",
        "edgefold.reporting",
        "edgefold.runtimes",
        "edgefold.runtimes.remote",
        "edgefold.tasks",
        "edgefold.tracing",
    ),
    "edgefold.data": (
        "edgefold.data",
        "edgefold.errors",
    ),
    "edgefold.distillation": (
        "edgefold",
        "edgefold.distillation",
        "edgefold.penalties",
        "edgefold.structure",
        "edgefold.teachers",
    ),
    "edgefold.gates": (
        "edgefold",
        "edgefold.gates",
        "edgefold.masks",
        "edgefold.resizing",
    ),
    "edgefold.graphs": (
        "edgefold",
        "edgefold.graphs",
        "edgefold.tracing",
    ),
    "edgefold.integrations": (
        "edgefold",
        "edgefold.cli",
        "edgefold.exporters",
        "edgefold.integrations",
        "edgefold.runtimes",
        "edgefold.tracing",
    ),
    "edgefold.jobs": (
        "edgefold",
        "edgefold.distillation",
        "edgefold.jobs",
        "edgefold.recipes",
        "edgefold.starts",
        "edgefold.structure",
        "edgefold.tasks",
        "edgefold.tracing",
        "edgefold.vocabulary",
    ),
    "edgefold.masks": (
        "edgefold",
        "edgefold.masks",
        "edgefold.starts",
        "edgefold.tracing",
    ),
    "edgefold.packaged": (
        "edgefold.packaged",
        "edgefold.data",
        "edgefold.errors",
        "edgefold.staging",
    ),
    "edgefold.penalties": (
        "edgefold.penalties",
        "edgefold.errors",
    ),
    "edgefold.recipes": (
        "edgefold.recipes",
        "edgefold.errors",
        "edgefold.gates",
        "edgefold.penalties",
        "edgefold.plans",
        "edgefold.staging",
    ),
    "edgefold.reporting": (
        "edgefold.reporting",
        "edgefold.device_states",
        "edgefold.errors",
        "edgefold.ratios",
        "edgefold.reports",
        "edgefold.staging",
    ),
    "edgefold.resizing": (
        "edgefold",
        "edgefold.resizing",
        "edgefold.graphs",
        "edgefold.tracing",
    ),
    "edgefold.scores": ("edgefold.scores",),
    "edgefold.starts": (
        "edgefold",
        "edgefold.starts",
        "edgefold.graphs",
        "edgefold.resizing",
        "edgefold.tracing",
    ),
    "edgefold.structure": (
        "edgefold",
        "edgefold.structure",
        "edgefold.resizing",
    ),
    "edgefold.tasks": (
        "edgefold",
        "edgefold.data",
        "edgefold.distillation",
        "edgefold.recipes",
        "edgefold.scores",
        "edgefold.tasks",
        "edgefold.tracing",
    ),
    "edgefold.teachers": (
        "edgefold.teachers",
        "edgefold.errors",
        "edgefold.staging",
    ),
    "edgefold.tracing": (
        "edgefold.tracing",
        "edgefold.errors",
    ),
    "edgefold.vocabulary": (
        "edgefold",
        "edgefold.vocabulary",
        "edgefold.resizing",
        "edgefold.structure",
    ),
    "optimum.commands.register": ("edgefold.integrations.optimum_command",),
}
"""Package -> the modules of ours, or packages with all their modules, that it may import. "edgefold" is
the modules of sdk/ that stand in no package."""
FRONT = ("edgefold.budget.device_search", "edgefold.jobs.compression", "edgefold.recipes.recipe")
"""Further modules whose names `edgefold` itself, its __init__ alone, hands out."""

WITHOUT_TORCH = (
    "artifact_archives",
    "artifacts",
    "reporting.benchmark_page",
    "reporting.comparisons",
    "data.records",
    "errors",
    "gates.settings",
    "device_states",
    "gpu_states",
    "data.images",
    "masks.steps",
    "nvidia_driver",
    "openvino_modules",
    "recipes.penalties",
    "data.plain_text",
    "plans",
    "data.questions",
    "ratios",
    "recipes.data",
    "recipes.recipe",
    "reporting.files",
    "reports",
    "staging",
    "data.tags",
    "tensorrt_modules",
    "data.texts",
)
"""Modules of sdk/ that a device, or a command before its work begins, imports without torch."""
WITH_TORCH = (
    "demo_job",
    "demo_measurement",
    "demo_rivals",
    "demo_summary",
    "encoding",
    "export_job",
    "int8_job",
    "models",
    "optimum_inputs",
    "search_job",
    "tokenizers",
    "torch_rivals",
)
"""The work behind commands of sdk/cli/ that need torch or transformers; commands import it inside their functions."""
BASELINES = ("edgefold.runtimes.torch_baseline",)
"""The modules of the runtimes that may import torch: it is what the others are compared with."""


def modules() -> dict[str, Path]:
    """Dotted name -> source file."""
    return {
        package if path.stem == "__init__" else f"{package}.{path.stem}": path
        for package, folder in FOLDERS.items()
        for path in sorted(folder.glob("*.py"))
    }


MODULES = modules()


def package_of(module: str) -> str:
    return module if module in FOLDERS else module.rpartition(".")[0]


def imported(path: Path, at_top_only: bool = False) -> Iterator[str]:
    """Every module that a file imports; `from a import b` is a.b where that is a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield name if name in MODULES else str(node.module)


def is_allowed(module: str, allowed: tuple[str, ...]) -> bool:
    return module in allowed or (module in MODULES and package_of(module) in allowed)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_only_where_the_table_allows(module: str) -> None:
    ours = {name for name in imported(MODULES[module]) if name.split(".")[0] == "edgefold"}
    allowed = ALLOWED[package_of(module)] + (FRONT if module == "edgefold" else ())
    wrong = sorted(name for name in ours if not is_allowed(name, allowed))
    assert not wrong, f"{module} must not import {', '.join(wrong)}; see ALLOWED"


@pytest.mark.parametrize("module", MODULES)
def test_no_file_imports_by_the_name_of_a_folder(module: str) -> None:
    assert {name.split(".")[0] for name in imported(MODULES[module])}.isdisjoint({"sdk", "exporters", "runtimes"})


@pytest.mark.parametrize("module", [name for name in MODULES if package_of(name).startswith("edgefold.runtimes")])
def test_runtimes_never_import_what_trains_or_exports(module: str) -> None:
    heavy = {"transformers", "onnx"} | (set() if module in BASELINES else {"torch"})
    assert {name.split(".")[0] for name in imported(MODULES[module])}.isdisjoint(heavy)


OPTIONAL = {"edgefold.runtimes.loadgen": "mlperf_loadgen"}
"""Modules that need a package which not every machine can have; left out where it is missing."""


def light_modules() -> list[str]:
    whole = [name for name in MODULES if package_of(name).startswith(("edgefold.cli", "edgefold.runtimes"))]
    left_out = {f"edgefold.cli.{name}" for name in ("__main__", *WITH_TORCH)} | set(BASELINES)
    left_out |= {name for name, package in OPTIONAL.items() if find_spec(package) is None}
    return ["edgefold", *(f"edgefold.{name}" for name in WITHOUT_TORCH), *(n for n in whole if n not in left_out)]


def test_light_modules_import_neither_torch_nor_transformers() -> None:
    code = (
        "import sys\nfrom importlib import import_module\n"
        f"for name in {light_modules()!r}:\n"
        "    import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'onnx', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, (name, heavy)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("module", MODULES)
def test_every_file_begins_with_a_line_that_says_what_it_is_for(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8"))) or ""
    first = docstring.splitlines()[0] if docstring else ""
    assert len(first) >= 15, f"{module} begins without a docstring"


def public_functions(path: Path) -> set[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}


def test_no_module_bears_the_name_of_a_public_function() -> None:
    """After its first use `edgefold.fold` would turn into the module."""
    for package in ("edgefold", "edgefold.distillation", "edgefold.exporters", "edgefold.runtimes"):
        names = {module.rpartition(".")[2] for module in MODULES if package_of(module) == package}
        functions = {
            name for module in MODULES if package_of(module) == package for name in public_functions(MODULES[module])
        }
        assert not names & (functions | set(import_module(package).__all__))


@pytest.mark.parametrize("package", ["edgefold", "edgefold.exporters", "edgefold.runtimes"])
def test_every_public_name_exists_is_listed_and_is_found_where_it_lives(package: str) -> None:
    namespace = import_module(package)
    assert sorted(namespace._HOME) == sorted(namespace.__all__)
    for name, home in namespace._HOME.items():
        assert getattr(namespace, name) is getattr(import_module(f"{package}.{home}"), name)
        assert name in dir(namespace) or package != "edgefold"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = namespace.nothing


def test_packages_do_not_import_each_other_in_circles() -> None:
    """But for the modules of sdk/ that stand in no package: some are above the packages, others below."""
    below = {package: {whole(name) for name in ALLOWED[package]} for package in FOLDERS}
    seen: list[str] = []

    def visit(package: str, above: tuple[str, ...]) -> None:
        assert package not in above, " imports ".join((*above, package))
        others = set().union(*(below[name] for name in below if whole(name) == package)) - {package, "edgefold"}
        for other in sorted(others - set(seen)):
            visit(other, (*above, package))
        seen.append(package)

    for package in sorted({whole(name) for name in FOLDERS} - {"edgefold"}):
        visit(package, ())
    assert {"edgefold.tracing", "edgefold.jobs", "edgefold.exporters"} <= set(seen)


def whole(name: str) -> str:
    """edgefold.runtimes of edgefold.runtimes.remote; edgefold of what stands in no package."""
    package = name if name in FOLDERS else name.rpartition(".")[0]
    return ".".join(package.split(".")[:2])


def test_every_folder_is_covered_by_the_table() -> None:
    sources = {path for folder in ("sdk", "exporters", "runtimes") for path in (ROOT / folder).rglob("*.py")}
    assert sources == set(MODULES.values())
    assert set(ALLOWED) == set(FOLDERS)
