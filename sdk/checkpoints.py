"""save_student and load_student: a folded student as a folder of safetensors and JSON.

A student that its Hugging Face configuration describes is an ordinary checkpoint and opens with `from_pretrained`.
Any other is
saved with the size attributes of all its modules, and opened by giving them to a fresh module of the original
architecture; where that is no Hugging Face model, a traced graph stands in for it.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.fx import GraphModule

from edgefold.copies import copied
from edgefold.errors import InputError
from edgefold.graphs.folders import GRAPH, read_graph, write_graph
from edgefold.graphs.input_facts import describe_inputs
from edgefold.low_rank import FactorPair, factorize
from edgefold.resizing.attribute_edits import AttributeEdit, apply_edits
from edgefold.staging import sha256_file, staged_folder
from edgefold.structure.arrangements import arrange, describe_arrangement, share

SCHEMA_VERSION = 1
MANIFEST = "edgefold.json"
ORDINARY_WEIGHTS = "model.safetensors"
OWN_WEIGHTS = "student.safetensors"


def save_student(
    plain: nn.Module,
    out: str | Path,
    *,
    inputs: Mapping[str, Tensor] | None = None,
    tokenizer: Any = None,
    lineage: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a folded student: weights as safetensors, configuration, `edgefold.json` with checksums and lineage.

    Args:
        inputs: example keyword tensors of forward, at least 2 rows. With them a module that is no Hugging Face model
            is saved as a traced graph as well, so that `load_student` opens it from the folder alone.
        tokenizer: anything with `save_pretrained`, saved beside the model.
        lineage: JSON-able facts of its making (teacher, plan, metrics).

    Raises:
        InputError: the student is not folded, cannot be traced with `inputs`, or `out` exists and is not empty.
    """
    if getattr(plain, "edgefold_unfolded", False):
        raise InputError("save_student takes a folded student; call edgefold.fold(student) first.")
    facts: list[dict[str, Any]] = []
    with staged_folder(out, overwrite) as folder:
        uniform = _is_described_by_configuration(plain)
        if uniform:
            _save_whole(cast(Any, plain), folder)
        else:
            if _has_configuration(plain):
                cast(Any, plain).config.architectures = [type(plain).__name__]
                cast(Any, plain).config.save_pretrained(folder)
            tensors = _distinct_tensors(plain)
            save_file(tensors, folder / OWN_WEIGHTS, metadata={"format": "pt"})
            if isinstance(plain, GraphModule) or (inputs is not None and not _has_configuration(plain)):
                write_graph(folder, plain, inputs, tensors)
                facts = describe_inputs(inputs) if inputs is not None else facts
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        _write_manifest(folder, plain, uniform, lineage or {}, facts)
    return Path(out)


def load_student(folder: str | Path, architecture: nn.Module | None = None) -> nn.Module:
    """Open what `save_student` wrote, in evaluation mode.

    Args:
        architecture: for a student that is no Hugging Face model and was saved without inputs, an instance of the
            original class at its original sizes; its weights do not matter and it is not modified. With inputs it
            opens without, as a graph that computes the same.

    Raises:
        InputError: no such folder, no student in it, a file that is missing or corrupt, or an architecture that does
            not fit.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest["uniform"]:
        model = _model_class(folder, manifest).from_pretrained(folder, local_files_only=True, use_safetensors=True)
        return cast(nn.Module, model).eval()
    if architecture is None and (folder / GRAPH).is_file():
        return read_graph(folder, _read_weights(folder))
    skeleton = arrange(_skeleton(folder, manifest, architecture), manifest)
    modules = dict(skeleton.named_modules())
    for path, rank in manifest["factor_pairs"].items():
        if isinstance(modules.get(path), nn.Linear | nn.Embedding):
            factorize(skeleton, FactorPair(path, rank))
    edits = tuple(
        AttributeEdit(path, name, tuple(value) if isinstance(value, list) else value)
        for path, attributes in manifest["attributes"].items()
        for name, value in attributes.items()
    )
    shapes = {name: tuple(shape) for name, shape in manifest["shapes"].items()}
    _load_weights(share(_edited(skeleton, edits, shapes, folder), manifest), folder)
    return skeleton.eval()


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a student's folder, its checksums verified.

    Raises:
        InputError: as `load_student`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            f"There is no student folder {folder}; give the folder that save_student or `edgefold compress` wrote."
        )
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder} has no {MANIFEST}, so it is not a student of edgefold; open an ordinary checkpoint with "
            "from_pretrained."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{folder / MANIFEST} is not valid JSON ({error}); restore the folder or make the student again."
        ) from None
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{folder / MANIFEST} has schema version {manifest.get('schema_version')}, this edgefold reads "
            f"{SCHEMA_VERSION}; "
            "install the edgefold that wrote it."
        )
    for name, digest in manifest["sha256"].items():
        _verify(folder / name, digest)
    return cast(dict[str, Any], manifest)


def _verify(path: Path, digest: str) -> None:
    if not path.is_file():
        raise InputError(f"The student's file {path} is missing; restore the folder or make the student again.")
    found = sha256_file(path)
    if found != digest:
        raise InputError(
            f"{path} is corrupt: its SHA-256 is {found[:12]}…, {MANIFEST} says {digest[:12]}…; restore the "
            "folder or make the "
            "student again."
        )


def _write_manifest(
    folder: Path, plain: nn.Module, uniform: bool, lineage: Mapping[str, Any], facts: list[dict[str, Any]]
) -> None:
    content = {
        "schema_version": SCHEMA_VERSION,
        "class": type(plain).__name__,
        "uniform": uniform,
        "attributes": {} if uniform else _size_attributes(plain),
        "shapes": {} if uniform else {name: list(tensor.shape) for name, tensor in _tensors(plain).items()},
        "factor_pairs": {} if uniform else _factor_pairs(plain),
        **({} if uniform else describe_arrangement(plain)),
        **({"inputs": facts} if facts else {}),
        "lineage": dict(lineage),
        "sha256": {path.name: sha256_file(path) for path in sorted(folder.iterdir()) if path.is_file()},
    }
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _save_whole(plain: Any, folder: Path) -> None:
    """With what its class leaves out, to be computed again: Marian's table of positions, which may be projected."""
    left_out = getattr(plain, "_keys_to_ignore_on_save", None)
    plain._keys_to_ignore_on_save = None
    try:
        plain.save_pretrained(folder)
    finally:
        plain._keys_to_ignore_on_save = left_out


def _has_configuration(plain: nn.Module) -> bool:
    return hasattr(getattr(plain, "config", None), "save_pretrained")


def _is_described_by_configuration(plain: nn.Module) -> bool:
    """Whether building the class from its configuration gives these very shapes and constants."""
    if not hasattr(plain, "config") or not hasattr(plain, "save_pretrained"):
        return False
    with torch.device("meta"):
        fresh = type(plain)(copy.deepcopy(plain.config))
    same_shapes = {n: p.shape for n, p in fresh.named_parameters()} == {n: p.shape for n, p in plain.named_parameters()}
    return same_shapes and _size_attributes(fresh) == _size_attributes(plain) and _has_own_constants(plain)


def _has_own_constants(plain: Any) -> bool:
    """Whether the buffers that no checkpoint holds (rotary frequencies) are those that the architecture computes."""
    constants = _constants(plain)
    if not constants:
        return True
    with torch.random.fork_rng(devices=[]):
        own = _constants(type(plain)(copy.deepcopy(plain.config)))
    return own.keys() == constants.keys() and all(
        torch.allclose(value.cpu().float(), own[name].float(), rtol=1e-6) for name, value in constants.items()
    )


def _constants(plain: nn.Module) -> dict[str, Tensor]:
    """Floating-point buffers that are not part of a checkpoint."""
    persistent = plain.state_dict().keys()
    buffers = plain.named_buffers()
    return {name: value for name, value in buffers if name not in persistent and value.is_floating_point()}


def _size_attributes(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Whole numbers, and tuples of them, that the modules hold as public attributes."""
    found = {
        path: {name: value for name, value in vars(child).items() if not name.startswith("_") and _is_size(value)}
        for path, child in module.named_modules()
    }
    return {path: attributes for path, attributes in found.items() if attributes}


def _is_size(value: object) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(_is_size(item) and not isinstance(item, tuple) for item in value)
    return isinstance(value, int) and not isinstance(value, bool)


def _factor_pairs(plain: nn.Module) -> dict[str, int]:
    """Layers that are two in a row, an arrangement `factorize` makes: {path: rank}."""
    return {
        path: second.in_features
        for path, child in plain.named_modules()
        if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(second := child[1], nn.Linear)
        if (isinstance(child[0], nn.Linear) and child[0].bias is None) or isinstance(child[0], nn.Embedding)
    }


def _tensors(plain: nn.Module) -> dict[str, Tensor]:
    return {**dict(plain.named_parameters()), **{name: b for name, b in plain.named_buffers() if b.is_floating_point()}}


def _distinct_tensors(plain: nn.Module) -> dict[str, Tensor]:
    """Tied tensors once, for safetensors refuses shared memory; and constants, which may be selected ones."""
    kept = {name for name, _ in [*plain.named_parameters(), *plain.named_buffers()]}
    tensors = {name: tensor for name, tensor in plain.state_dict().items() if name in kept} | _constants(plain)
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def _model_class(folder: Path, manifest: Mapping[str, Any]) -> Any:
    import transformers

    model_class = getattr(transformers, str(manifest["class"]), None)
    if not (isinstance(model_class, type) and issubclass(model_class, transformers.PreTrainedModel)):
        raise InputError(
            f"{folder} holds a {manifest['class']}, which this transformers does not have; install the one it "
            "was made with."
        )
    return model_class


def _skeleton(folder: Path, manifest: Mapping[str, Any], architecture: nn.Module | None) -> nn.Module:
    """The original architecture at its original sizes."""
    if architecture is not None:
        if type(architecture).__name__ != manifest["class"]:
            raise InputError(
                f"{folder} holds a {manifest['class']}; the architecture given is a {type(architecture).__name__}."
            )
        return copied(architecture)
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder} holds a {manifest['class']}, which is no Hugging Face model and was saved without inputs; pass "
            f"load_student(folder, architecture={manifest['class']}(...)) at its original sizes, or save it again with "
            "save_student(plain, out, inputs=...), which needs no architecture."
        )
    model_class = _model_class(folder, manifest)
    with torch.random.fork_rng(devices=[]):
        return cast(nn.Module, model_class(model_class.config_class.from_pretrained(folder)))


def _edited(
    skeleton: nn.Module, edits: tuple[AttributeEdit, ...], shapes: Mapping[str, tuple[int, ...]], folder: Path
) -> nn.Module:
    try:
        return apply_edits(skeleton, edits, shapes)
    except AttributeError as error:
        raise InputError(f"The architecture given does not fit the student in {folder}: {error}.") from None


def _read_weights(folder: Path) -> dict[str, Tensor]:
    try:
        weights: dict[str, Tensor] = load_file(folder / OWN_WEIGHTS)
    except SafetensorError as error:
        raise InputError(f"The weights in {folder / OWN_WEIGHTS} do not fit: {error}.") from None
    return weights


def _load_weights(model: nn.Module, folder: Path) -> None:
    weights = _read_weights(folder)
    for name in _constants(model).keys() & weights.keys():
        path, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(path), attribute, weights.pop(name))
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise InputError(f"The weights in {folder / OWN_WEIGHTS} do not fit: {error}.") from None
    tied = {name for name in missing if name in dict(model.named_parameters(remove_duplicate=False))}
    absent = [name for name in missing if name not in tied or name in _tensors(model)]
    if absent or unexpected:
        raise InputError(
            f"The weights in {folder / OWN_WEIGHTS} do not fit: missing {absent}, unexpected {unexpected}."
        )
