"""Packed artifacts: load(pack(a)) = a, small where there are zeros; what is not what the manifest says is refused."""

import errno
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgefold.artifacts import MANIFEST, Artifact, TensorSpec, load_artifact, pack_artifact, write_artifact
from edgefold.cli.application import app
from edgefold.errors import InputError

ZEROS = 200_000
FILES = {"model.onnx": bytes(ZEROS) + b"graph", "deep/vocab.txt": b"[PAD]"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEFOLD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "artifacts"


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    folder = tmp_path / "artifact"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 2))
    fields: Any = {"format": "onnx", "precision": "fp32", "target": None, "model_file": "model.onnx"}
    return write_artifact(folder, **fields, inputs=[spec], outputs=[spec])


@pytest.fixture
def packed(artifact: Artifact, tmp_path: Path) -> Path:
    return pack_artifact(artifact.folder, tmp_path / "packed.zip")


def rewrite(packed: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """The archive with other entries, as a stranger would make it."""
    with zipfile.ZipFile(packed) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return packed


def rename(entries: dict[str, bytes], name: str) -> None:
    """In the archive and in its manifest."""
    manifest = json.loads(entries[MANIFEST])
    manifest["files"][name] = manifest["files"].pop("deep/vocab.txt")
    entries[MANIFEST] = json.dumps(manifest).encode()
    entries[name] = entries.pop("deep/vocab.txt")


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def test_a_packed_artifact_is_the_same_and_small(artifact: Artifact, packed: Path, cache: Path) -> None:
    opened = load_artifact(packed)
    assert opened.model_dump() == artifact.model_dump()
    assert opened.folder.parent == cache
    assert {name: (opened.folder / name).read_bytes() for name in FILES} == FILES
    assert packed.stat().st_size < 0.05 * ZEROS
    again = pack_artifact(opened, packed.with_name("again.zip"))
    assert again.read_bytes() == packed.read_bytes()  # no dates, no order of a folder


def test_it_is_unpacked_once_and_again_where_the_cache_was_changed(packed: Path) -> None:
    path = load_artifact(packed).model_path
    written = path.stat().st_mtime_ns
    assert load_artifact(packed).model_path.stat().st_mtime_ns == written
    path.write_bytes(bytes(ZEROS) + b"grave")
    assert load_artifact(packed).model_path.read_bytes() == FILES["model.onnx"]


def test_what_nobody_opens_for_a_month_gives_way(packed: Path, cache: Path, artifact: Artifact, tmp_path: Path) -> None:
    month = 31 * 24 * 3600
    opened = load_artifact(packed).folder
    old, recent, notes = cache / ("0" * 32), cache / ("1" * 32), cache / "notes"
    for folder in (old, recent, notes):
        folder.mkdir()
    for folder, age in ((old, month), (notes, month), (opened, month), (recent, month / 2)):
        os.utime(folder, (time.time() - age,) * 2)
    assert load_artifact(packed).folder == opened  # and it is in use again
    (artifact.folder / "deep" / "vocab.txt").write_bytes(b"[UNK]")
    fields: Any = {"format": "onnx", "precision": "fp32", "target": None, "model_file": "model.onnx"}
    write_artifact(artifact.folder, **fields, inputs=artifact.inputs, outputs=artifact.outputs)
    other = load_artifact(pack_artifact(artifact.folder, tmp_path / "other.zip")).folder
    assert {path.name for path in cache.iterdir()} == {opened.name, other.name, recent.name, "notes"}


def test_a_corrupt_copy_is_refused_where_a_sound_one_was_opened(packed: Path, tmp_path: Path) -> None:
    load_artifact(packed)
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        entry = archive.getinfo("deep/vocab.txt")
    content[entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2] ^= 1  # 30: the entry's header
    (tmp_path / "copy.zip").write_bytes(content)
    with pytest.raises(InputError, match="corrupt"):
        load_artifact(tmp_path / "copy.zip")
    load_artifact(packed)


REFUSED: list[tuple[Callable[[dict[str, bytes]], Any], str]] = [
    (lambda entries: rename(entries, "../vocab.txt"), r"holds '\.\./vocab\.txt', which lies outside of its folder"),
    (lambda entries: rename(entries, "/tmp/vocab.txt"), r"holds '/tmp/vocab\.txt', which lies outside"),
    (lambda entries: rename(entries, "..\\vocab.txt"), r"which lies outside of its folder; do not use"),
    (lambda entries: entries.pop(MANIFEST), r"has no artifact\.json; give an archive that `edgefold pack` wrote"),
    (lambda entries: entries.pop("model.onnx"), r"are not those of its artifact\.json \(model\.onnx\)"),
    (lambda entries: entries.update(more=b"1"), r"are not those of its artifact\.json \(more\)"),
    (lambda entries: entries.update({"deep/vocab.txt": bytes(9)}), r"gives deep/vocab\.txt 9 bytes, artifact\.json 5"),
    (lambda entries: entries.update({"deep/vocab.txt": b"[CAT]"}), r"deep/vocab\.txt in .* is corrupt: its SHA-256 is"),
    (lambda entries: entries.update({MANIFEST: b"{"}), r"packed\.zip is malformed at its text"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_is_not_what_the_manifest_says_is_refused_and_nothing_is_left(
    packed: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], Any], message: str
) -> None:
    before = set(files_below(tmp_path))
    with pytest.raises(InputError, match=message):
        load_artifact(rewrite(packed, change))
    assert set(files_below(tmp_path)) == before


def test_more_bytes_than_the_table_of_contents_says_are_not_written(packed: Path, tmp_path: Path) -> None:
    """A bomb: the directory and the manifest say 5 bytes, the deflated data are 10 MB."""
    bomb = 10_000_000
    rewrite(packed, lambda entries: entries.update({"deep/vocab.txt": bytes(bomb)}))
    content = packed.read_bytes().replace(bomb.to_bytes(4, "little"), (5).to_bytes(4, "little"))
    packed.write_bytes(content)
    with pytest.raises(InputError, match="corrupt"):
        load_artifact(packed)
    assert not list(files_below(tmp_path / "cache"))


def test_a_cut_off_archive_is_refused(packed: Path, cache: Path) -> None:
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"packed\.zip is no archive of an artifact, or is corrupt"):
        load_artifact(packed)
    assert not cache.exists()


def test_a_disk_that_is_full_leaves_nothing(
    artifact: Artifact, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=10)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: free)
        with pytest.raises(InputError, match=r"There is no room for .*MB are needed, 0 MB are free"):
            load_artifact(packed)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(InputError, match=r"There is no room for .*No space left on device"):
        pack_artifact(artifact, tmp_path / "other.zip")
    assert not list(files_below(tmp_path / "cache"))
    assert not [path for path in tmp_path.iterdir() if "other" in path.name]


def test_the_command_says_how_small_it_is(artifact: Artifact, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    command = ["pack", str(artifact.folder), "--out", str(tmp_path / "a.zip")]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["packed_bytes"] == (tmp_path / "a.zip").stat().st_size < document["size_bytes"] == ZEROS + 10
    assert CliRunner().invoke(app, command).exit_code == 2
    assert "% of the 0.2 MB" in CliRunner().invoke(app, [*command, "--overwrite"]).stdout
    other = tmp_path / "other.zip"
    other.write_bytes(b"PK")
    result = CliRunner().invoke(app, ["bench", str(other)])
    assert (result.exit_code, "is a file that `edgefold pack` did not write" in result.stderr) == (2, True)
