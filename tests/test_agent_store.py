"""The device's store: a file is under its SHA-256 or not there, whatever happened to its transfer."""

import hashlib
import os
from itertools import pairwise
from pathlib import Path

import pytest

from edgefold.runtimes.agent.refusals import Refused
from edgefold.runtimes.agent.store import Store

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("cuts", [[], [0], [1, 1], [100, 5000, 5001], [len(CONTENT) - 1], [len(CONTENT)]])
def test_pieces_put_together_are_the_file(tmp_path: Path, cuts: list[int]) -> None:
    folder = tmp_path / "store"
    for start, end in pairwise([0, *cuts, len(CONTENT)]):
        store = Store(folder)  # every piece in a life of its own: what is here is found again
        assert store.look_up(SHA256) == start
        assert store.put(SHA256, start, CONTENT[start:end]) == end
    Store(folder).finish(SHA256)
    assert Store(folder).look_up(SHA256) is None
    assert (folder / SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("offset", [0, 99, 101])
def test_a_piece_must_follow_on_what_is_here(store: Store, offset: int) -> None:
    store.put(SHA256, 0, CONTENT[:100])
    with pytest.raises(Refused, match=f"byte {offset} of {SHA256[:12]} came while 100 bytes are here"):
        store.put(SHA256, offset, b"more")


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT[:-1] + b"x", b""])
def test_what_arrives_corrupt_is_removed(store: Store, wrong: bytes) -> None:
    store.put(SHA256, 0, wrong)
    found = hashlib.sha256(wrong).hexdigest()
    with pytest.raises(Refused, match=rf"corrupt: its SHA-256 is {found[:12]}\.\.\., not {SHA256[:12]}\.\.\."):
        store.finish(SHA256)
    assert store.look_up(SHA256) == 0


def test_a_file_that_has_changed_since_is_asked_for_again(store: Store, tmp_path: Path) -> None:
    store.put(SHA256, 0, CONTENT)
    store.finish(SHA256)
    (tmp_path / "store" / SHA256).write_bytes(CONTENT[:-1])
    assert store.look_up(SHA256) == 0


def test_a_full_disk_is_told_and_not_left_full(store: Store, tmp_path: Path) -> None:
    """The kernel's own ENOSPC: /dev/full stands where the begun file would be."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / f"{SHA256}.part").symlink_to("/dev/full")
    with pytest.raises(Refused, match=r"no space for the model \(No space left on device\): [\d,]+ MB are free"):
        store.put(SHA256, 0, CONTENT)
    assert os.listdir(tmp_path / "store") == []


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b"])
def test_names_stay_within_their_folder(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="leads out of its folder"):
        store.assemble({name: SHA256}, tmp_path / "run")


def test_files_are_laid_out_under_their_names(store: Store, tmp_path: Path) -> None:
    store.put(SHA256, 0, CONTENT)
    with pytest.raises(Refused, match="is not in the store"):
        store.assemble({"model.onnx": SHA256}, tmp_path / "run")
    store.finish(SHA256)
    store.assemble({"model.onnx": SHA256, "deep/model.onnx_data": SHA256}, tmp_path / "run")
    assert (tmp_path / "run" / "model.onnx").read_bytes() == CONTENT
    assert (tmp_path / "run" / "deep" / "model.onnx_data").read_bytes() == CONTENT


@pytest.mark.parametrize("sha256", ["", "../x", SHA256[:-1], SHA256.upper(), SHA256 + "\n"])
def test_only_a_sha256_is_a_name(store: Store, sha256: str) -> None:
    with pytest.raises(Refused, match="is no SHA-256"):
        store.look_up(sha256)


@pytest.mark.parametrize(("keep", "left"), [(0, []), (250, ["b", "c"]), (10**6, ["a", "b", "c"])])
def test_the_files_least_recently_used_go_first(tmp_path: Path, keep: int, left: list[str]) -> None:
    for age, name in enumerate("cba"):
        (tmp_path / name).write_bytes(b"x" * 100)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    Store(tmp_path).trim(keep)
    assert sorted(os.listdir(tmp_path)) == left
