"""Artifacts: load(write(a)) = a, and whatever is not what was written is refused by its name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgefold.artifacts import (
    MANIFEST,
    SCHEMA_VERSION,
    Artifact,
    Generation,
    Part,
    TensorSpec,
    load_artifact,
    write_artifact,
)
from edgefold.errors import InputError

FILES = {"model.onnx": b"graph", "model.onnx_data": b"weights" * 9, "config.json": b"{}", "deep/vocab.txt": b"[PAD]"}


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    folder = tmp_path / "artifact"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return write(folder)


def write(folder: Path, **fields: Any) -> Artifact:
    given: dict[str, Any] = {
        "format": "onnx",
        "precision": "int8",
        "target": "cpu-x86",
        "model_file": "model.onnx",
        "inputs": [TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence"))],
        "outputs": [TensorSpec(name="logits", dtype="float32", shape=("batch", 2))],
        "task": "text-classification",
        "lineage": {"parity": {"fp32": 1e-6}, "plan": [None, True, "é"]},
    }
    return write_artifact(folder, **{**given, **fields})


def edit(artifact: Artifact, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change the manifest as a stranger would."""
    path = artifact.folder / MANIFEST
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return artifact.folder


def test_loading_what_was_written_gives_the_same(artifact: Artifact) -> None:
    loaded = load_artifact(str(artifact.folder))
    assert loaded == artifact
    assert loaded.model_path == artifact.folder / "model.onnx"
    assert loaded.model_path.read_bytes() == FILES["model.onnx"]


def test_parts_and_generation_are_written_where_there_are_any(artifact: Artifact) -> None:
    """A reader that knows neither still reads what has neither."""
    assert {"parts", "generation"}.isdisjoint(json.loads((artifact.folder / MANIFEST).read_text()))
    (artifact.folder / "second.onnx").write_bytes(b"another graph")
    spec = TensorSpec(name="ids", dtype="int64", shape=("batch", "past + sequence"))
    parts = {
        "one": Part(model_file="model.onnx", inputs=(), outputs=()),
        "two": Part(model_file="second.onnx", inputs=(spec,), outputs=()),
    }
    written = write(artifact.folder, parts=parts, generation=Generation(layers=2, end_ids=(1, 2)))
    loaded = load_artifact(artifact.folder)
    assert loaded == written
    assert loaded.generation == Generation(layers=2, end_ids=(1, 2))
    two = loaded.part("two")
    assert (two.model_path, two.inputs, two.parts) == (artifact.folder / "second.onnx", (spec,), {})
    assert two.generation == loaded.generation
    sizes = [len(FILES["model.onnx"]) + len(FILES["model.onnx_data"]), len(b"another graph")]
    assert [loaded.part(name).size_bytes for name in ("one", "two")] == sizes
    assert loaded.size_bytes == sum(sizes)
    with pytest.raises(InputError, match="has no part 'three'; its parts are one, two"):
        loaded.part("three")
    edit(artifact, lambda content: content["parts"]["two"].update(model_file="third.onnx"))
    with pytest.raises(InputError, match=r"no checksum for its model_file third\.onnx"):
        load_artifact(artifact.folder)


def test_a_last_id_is_written_where_there_is_one(artifact: Artifact) -> None:
    for last, names in ((None, set()), (3, {"last_id"})):
        write(artifact.folder, generation=Generation(layers=1, last_id=last))
        written = json.loads((artifact.folder / MANIFEST).read_text())["generation"]
        assert {"last_id"} & written.keys() == names
        assert load_artifact(artifact.folder).generation == Generation(layers=1, last_id=last)


def test_a_single_graph_has_no_parts(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="has no part 'encoder'; it is a single graph"):
        artifact.part("encoder")


def test_every_file_is_recorded_but_the_manifest(artifact: Artifact) -> None:
    assert set(artifact.files) == set(FILES)
    assert all(artifact.files[name].size_bytes == len(content) for name, content in FILES.items())
    assert write(artifact.folder) == artifact  # writing again does not record the manifest


def test_the_size_is_that_of_graph_and_weights(artifact: Artifact) -> None:
    assert artifact.size_bytes == len(FILES["model.onnx"]) + len(FILES["model.onnx_data"])


def test_artifacts_can_be_moved(artifact: Artifact, tmp_path: Path) -> None:
    moved = artifact.folder.rename(tmp_path / "elsewhere")
    loaded = load_artifact(moved)
    assert loaded.model_dump() == artifact.model_dump()
    assert loaded.model_path == moved / "model.onnx"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, -1])
def test_one_flipped_bit_is_found_in_every_file(artifact: Artifact, name: str, place: int) -> None:
    content = bytearray(FILES[name])
    content[place] ^= 1
    (artifact.folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is corrupt.*{artifact.files[name].sha256[:12]}"):
        load_artifact(artifact.folder)
    assert load_artifact(artifact.folder, verify=False) == artifact


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("verify", [False, True])
def test_a_missing_file_is_named(artifact: Artifact, name: str, verify: bool) -> None:
    (artifact.folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        load_artifact(artifact.folder, verify=verify)


def test_a_folder_without_a_manifest_and_no_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no artifact\.json"):
        load_artifact(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        load_artifact(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda content: content.pop("precision"), "precision"),
        (lambda content: content.update(precision="int3"), "precision"),
        (lambda content: content.update(extra=1), "extra"),
        (lambda content: content["files"]["model.onnx"].update(size_bytes="many"), "files.model.onnx.size_bytes"),
        (lambda content: content["inputs"][0].pop("dtype"), "inputs.0.dtype"),
    ],
)
def test_a_malformed_manifest_says_where(
    artifact: Artifact, change: Callable[[dict[str, Any]], Any], where: str
) -> None:
    with pytest.raises(InputError, match=f"malformed at {where}"):
        load_artifact(edit(artifact, change))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"files": '])
def test_a_manifest_that_is_no_json_object(artifact: Artifact, text: str) -> None:
    (artifact.folder / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="malformed"):
        load_artifact(artifact.folder)


def test_a_newer_schema_is_refused(artifact: Artifact) -> None:
    folder = edit(artifact, lambda content: content.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(InputError, match=f"schema_version.*reads schema version {SCHEMA_VERSION}"):
        load_artifact(folder)


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("name", ["../secret", "deep/../../secret", "/etc/hostname"])
def test_a_path_outside_the_folder_is_refused_unread(artifact: Artifact, name: str, verify: bool) -> None:
    (artifact.folder.parent / "secret").write_text("secret")
    record = artifact.files["model.onnx"].model_dump()
    folder = edit(artifact, lambda content: content["files"].update({name: record}))
    with pytest.raises(InputError, match="lies outside the folder"):
        load_artifact(folder, verify=verify)


def test_a_link_out_of_the_folder_is_refused(artifact: Artifact) -> None:
    outside = artifact.folder.parent / "secret"
    outside.write_bytes(FILES["config.json"])
    (artifact.folder / "config.json").unlink()
    (artifact.folder / "config.json").symlink_to(outside)
    with pytest.raises(InputError, match=r"config\.json, which lies outside"):
        load_artifact(artifact.folder)


@pytest.mark.parametrize("name", ["other.onnx", "../secret"])
def test_a_model_file_without_a_checksum_is_refused(artifact: Artifact, name: str) -> None:
    folder = edit(artifact, lambda content: content.update(model_file=name))
    with pytest.raises(InputError, match=f"model_file.*{name}"):
        load_artifact(folder)


def test_an_artifact_needs_its_model_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no model\.onnx"):
        write(tmp_path)
    assert not (tmp_path / MANIFEST).exists()


def test_artifacts_are_frozen(artifact: Artifact) -> None:
    with pytest.raises(ValueError, match="frozen"):
        artifact.precision = "fp32"


def test_what_json_changes_in_the_lineage_is_changed_at_once(artifact: Artifact) -> None:
    written = write(artifact.folder, lineage={"sizes": (1, 2), "labels": {0: Path("no")}})
    assert written.lineage == {"sizes": [1, 2], "labels": {"0": "no"}}
    assert load_artifact(artifact.folder) == written


def test_a_lineage_that_json_cannot_hold_is_refused_and_nothing_is_written(artifact: Artifact) -> None:
    before = (artifact.folder / MANIFEST).read_bytes()
    with pytest.raises(InputError, match=r"must be of JSON's types .*: .*object"):
        write(artifact.folder, lineage={"metric": object()})
    assert (artifact.folder / MANIFEST).read_bytes() == before


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ('{"vocab_size": 30522}', 30522),
        ('{"text_config": {"vocab_size": 99}, "vision_config": {"image_size": 16}}', 99),
        ('{"vocab_size": 7, "text_config": {"vocab_size": 5}}', 7),
        ('{"vocab_size": 0}', None),
        ('{"vocab_size": "many"}', None),
        ("{}", None),
        ("[1]", None),
        ("{", None),
        (None, None),
    ],
)
def test_the_vocabulary_is_that_of_the_configuration(artifact: Artifact, config: str | None, size: int | None) -> None:
    (artifact.folder / "config.json").unlink()
    if config is not None:
        (artifact.folder / "config.json").write_text(config)
    assert write(artifact.folder).vocab_size == size
