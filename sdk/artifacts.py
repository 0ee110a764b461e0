"""Artifacts: folders with artifact.json, model files and what goes with them; exporters write them, runtimes read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError
from pydantic_core import PydanticSerializationError

from edgefold.artifact_archives import unpacked_folder, write_archive
from edgefold.errors import InputError
from edgefold.staging import sha256_file

SCHEMA_VERSION = 1
Precision = Literal["fp32", "fp16", "int8", "weight-int8", "int4"]
"""fp16 and int8 of weights and activations; "weight-int8" and "int4" of weights alone."""
MANIFEST = "artifact.json"


class TensorSpec(BaseModel):
    """Name, type and shape of one input or output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: str
    """numpy's name of the element type."""
    shape: tuple[int | str, ...]
    """A size, or the name of a dynamic dimension; equal names are equal sizes."""


class FileRecord(BaseModel):
    """What a file must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size_bytes: int


class Part(BaseModel):
    """One graph of an artifact that has several."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Generation(BaseModel):
    """How tokens are generated with an artifact whose graphs pass keys and values from step to step.

    The layout of that cache stands in the specs: `past_key_values.N.key` goes in, `present.N.key` comes out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int
    """Layers with a cache."""
    start_ids: tuple[int, ...] = ()
    """What the decoder of an encoder-decoder begins with; a causal model begins with its prompt."""
    end_ids: tuple[int, ...] = ()
    """Ids that end a row."""
    pad_id: int = 0
    never_ids: tuple[int, ...] = ()
    """Ids that are never chosen."""
    never_first_ids: tuple[int, ...] = ()
    """Ids that are not chosen at the first step."""
    last_id: int | None = None
    """What a row that comes to the largest number of new tokens ends with; None leaves it cut off."""


class Artifact(BaseModel):
    """An exported model: what it is, where it came from, and the checksum of every file."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schema_version: Literal[1] = 1
    format: Literal["onnx", "tensorrt"]
    precision: Precision
    target: str | None = None
    """The kind of device it was encoded for, as in "cpu-x86"."""
    model_file: str
    files: dict[str, FileRecord]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    task: str | None = None
    parts: dict[str, Part] = {}
    """The graphs of an encoder-decoder by name, the one in `model_file` too; empty where there is but that one."""
    generation: Generation | None = None
    lineage: dict[str, Any] = {}
    """JSON-able: teacher, plan, metrics, parity, library versions."""
    _folder: Path = PrivateAttr(default=Path())

    @property
    def folder(self) -> Path:
        return self._folder

    @property
    def model_path(self) -> Path:
        return self._folder / self.model_file

    @property
    def vocab_size(self) -> int | None:
        """Of the Hugging Face configuration beside the model, or of one within it, as of a model of texts and images.

        None where there is none or it names no such size.
        """
        config = self._configuration()
        try:
            within = [part.get("vocab_size") for part in config.values() if isinstance(part, dict)]
            named = [config["vocab_size"]] if "vocab_size" in config else within
        except (ValueError, LookupError, TypeError, AttributeError):
            return None
        return min((size for size in named if isinstance(size, int) and size > 0), default=None)

    @property
    def limits(self) -> dict[str, int]:
        """Of inputs that are whole numbers, what they stay below; known of modules of one's own, saved with inputs."""
        try:
            return {each["name"]: int(each["high"]) + 1 for each in self.lineage.get("inputs", ()) if "high" in each}
        except (TypeError, ValueError, KeyError):
            return {}

    def _configuration(self) -> dict[str, Any]:
        """Empty where there is none or it is no JSON."""
        path = self._folder / "config.json"
        try:
            config = json.loads(path.read_bytes()) if path.is_file() else {}
        except ValueError:
            return {}
        return config if isinstance(config, dict) else {}

    @property
    def most_positions(self) -> int | None:
        """Of a text, by the Hugging Face configuration beside the model; None where it names no such size."""
        size = self._configuration().get("max_position_embeddings")
        return size if isinstance(size, int) and size > 0 else None

    @property
    def model_files(self) -> tuple[str, ...]:
        """The model files and their external data; configuration and tokenizer left out."""
        stems = tuple(Path(name).name for name in (self.model_file, *(part.model_file for part in self.parts.values())))
        return tuple(name for name in self.files if Path(name).name.startswith(stems))

    @property
    def size_bytes(self) -> int:
        """Of `model_files`."""
        return sum(self.files[name].size_bytes for name in self.model_files)

    def part(self, name: str) -> "Artifact":
        """The artifact seen as one of its graphs, which `open_session` opens.

        Raises:
            InputError: there is no such part.
        """
        if name not in self.parts:
            known = f"its parts are {', '.join(self.parts)}" if self.parts else "it is a single graph"
            raise InputError(f"{self._folder} has no part {name!r}; {known}.")
        part = self.parts[name]
        seen = self.model_copy(
            update={"model_file": part.model_file, "inputs": part.inputs, "outputs": part.outputs, "parts": {}}
        )
        seen._folder = self._folder
        return seen


def write_artifact(
    folder: str | Path,
    *,
    format: Literal["onnx", "tensorrt"],
    precision: Precision,
    target: str | None,
    model_file: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    task: str | None = None,
    parts: Mapping[str, Part] | None = None,
    generation: Generation | None = None,
    lineage: dict[str, Any] | None = None,
) -> Artifact:
    """Record every file that stands in `folder` and write its artifact.json.

    Raises:
        InputError: `model_file` is not there, or the lineage has something in it that JSON has not.
    """
    folder = Path(folder)
    if not (folder / model_file).is_file():
        raise InputError(f"{folder} has no {model_file}; an artifact needs its model file.")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    artifact = Artifact(
        format=format,
        precision=precision,
        target=target,
        model_file=model_file,
        files={
            path.relative_to(folder).as_posix(): FileRecord(sha256=sha256_file(path), size_bytes=path.stat().st_size)
            for path in paths
        },
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        task=task,
        parts=dict(parts or {}),
        generation=generation,
        lineage=lineage or {},
    )
    text = _to_json(artifact)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    written = Artifact.model_validate_json(text)  # what a reader will see, as in tuples that have become lists
    written._folder = folder
    return written


def pack_artifact(artifact: "Artifact | str | Path", out: str | Path) -> Path:
    """Write the artifact as one deflated file, which `load_artifact` opens; a file that stands there is replaced.

    Raises:
        InputError: no artifact, or no room on the disk.
    """
    opened = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
    return write_archive(opened.folder, (MANIFEST, *opened.files), Path(out))


def artifact_folder(path: str | Path) -> Path:
    """The folder of an artifact: `path`, or, where that is a packed one, the folder that it is unpacked to.

    Raises:
        InputError: a file that is no sound archive of an artifact.
    """
    path = Path(path)
    if not path.is_file():
        return path
    return unpacked_folder(path, MANIFEST, lambda text: _parse(text, path).files)


def load_artifact(folder: str | Path, verify: bool = True) -> Artifact:
    """Open an artifact, a folder or a packed one; `verify` reads every file and compares its checksum.

    Raises:
        InputError: no artifact there, a manifest that is malformed or of a newer schema, a file that is missing or
            corrupt.
    """
    folder = artifact_folder(folder)
    manifest = folder / MANIFEST
    if not manifest.is_file():
        what = f"{folder} has no {MANIFEST}" if folder.is_dir() else f"There is no folder {folder}"
        raise InputError(f"{what}; give a folder that `edgefold export` wrote.")
    artifact = _parse(manifest.read_bytes(), manifest)
    artifact._folder = folder
    for name in (artifact.model_file, *(part.model_file for part in artifact.parts.values())):
        if name not in artifact.files:
            raise InputError(f"{manifest} has no checksum for its model_file {name}; export the student again.")
    for name, record in artifact.files.items():
        _check_file(folder, name, record, verify)
    return artifact


def _parse(text: bytes, manifest: Path) -> Artifact:
    try:
        return Artifact.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "its text"
        raise InputError(
            f"{manifest} is malformed at {where}: {first['msg']} (this edgefold reads schema version "
            f"{SCHEMA_VERSION}); export the student again."
        ) from None


def _to_json(artifact: Artifact) -> str:
    unused: dict[str, Any] = {name: True for name in ("parts", "generation") if not getattr(artifact, name)}
    if artifact.generation is not None and artifact.generation.last_id is None:
        unused["generation"] = {"last_id"}  # older readers know none of these
    try:
        return artifact.model_dump_json(indent=2, exclude=unused)
    except PydanticSerializationError as error:
        raise InputError(
            f"The lineage of an artifact must be of JSON's types (dict, list, str, int, float, bool, None): {error}."
        ) from None


def _check_file(folder: Path, name: str, record: FileRecord, verify: bool) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder / MANIFEST} names {name}, which lies outside the folder; do not use this artifact.")
    if not path.is_file():
        raise InputError(f"The artifact's file {path} is missing; copy it again or export the student again.")
    if verify and (found := sha256_file(path)) != record.sha256:
        raise InputError(
            f"{path} is corrupt: its SHA-256 is {found[:12]}…, {MANIFEST} says {record.sha256[:12]}…; copy it again or "
            "export the student again."
        )
