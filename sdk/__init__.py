"""edgefold: train a network smaller, fold what was trained into plain weights, export it, measure it where it runs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgefold.budget.device_search import search
    from edgefold.checkpoints import load_student, save_student
    from edgefold.dimensions import Dimension, DimensionGraph, trace
    from edgefold.distillation import Contrast, Objective
    from edgefold.errors import DeviceError, EdgefoldError, GateError, InputError
    from edgefold.folding import fold
    from edgefold.gates.settings import Gates
    from edgefold.hardware_sizes import round_up
    from edgefold.jobs.compression import compress
    from edgefold.masks.checks import check_nm
    from edgefold.masks.steps import NM, Block, Unstructured
    from edgefold.plans import Bottleneck, DropLayers, LowRank, Plan, Project, Select, ShareLayers
    from edgefold.pretraining import SentencePairCollator
    from edgefold.recipes.recipe import Recipe, load_recipe
    from edgefold.student_building import build_student
    from edgefold.students import Student
    from edgefold.training import CompressionTrainer
    from edgefold.vocabulary.trimming import trim_vocabulary, used_tokens

__version__ = "0.1.0"

_HOME = {
    "NM": "masks.steps",
    "Block": "masks.steps",
    "Bottleneck": "plans",
    "CompressionTrainer": "training",
    "Contrast": "distillation",
    "DeviceError": "errors",
    "Dimension": "dimensions",
    "DimensionGraph": "dimensions",
    "DropLayers": "plans",
    "EdgefoldError": "errors",
    "GateError": "errors",
    "Gates": "gates.settings",
    "InputError": "errors",
    "LowRank": "plans",
    "Objective": "distillation",
    "Plan": "plans",
    "Project": "plans",
    "Recipe": "recipes.recipe",
    "Select": "plans",
    "SentencePairCollator": "pretraining",
    "ShareLayers": "plans",
    "Student": "students",
    "Unstructured": "masks.steps",
    "build_student": "student_building",
    "check_nm": "masks.checks",
    "compress": "jobs.compression",
    "fold": "folding",
    "load_recipe": "recipes.recipe",
    "load_student": "checkpoints",
    "round_up": "hardware_sizes",
    "save_student": "checkpoints",
    "search": "budget.device_search",
    "trace": "dimensions",
    "trim_vocabulary": "vocabulary.trimming",
    "used_tokens": "vocabulary.trimming",
}
"""Public names and the module each lives in; loaded on first use (PEP 562), so that `import edgefold` stays light."""

__all__ = [
    "NM",
    "Block",
    "Bottleneck",
    "CompressionTrainer",
    "Contrast",
    "DeviceError",
    "Dimension",
    "DimensionGraph",
    "DropLayers",
    "EdgefoldError",
    "GateError",
    "Gates",
    "InputError",
    "LowRank",
    "Objective",
    "Plan",
    "Project",
    "Recipe",
    "Select",
    "SentencePairCollator",
    "ShareLayers",
    "Student",
    "Unstructured",
    "build_student",
    "check_nm",
    "compress",
    "fold",
    "load_recipe",
    "load_student",
    "round_up",
    "save_student",
    "search",
    "trace",
    "trim_vocabulary",
    "used_tokens",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgefold' has no attribute {name!r}")
    return getattr(import_module(f"edgefold.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
