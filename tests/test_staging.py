"""Outputs appear whole or not at all."""

import hashlib
from pathlib import Path

import pytest

from edgefold.errors import InputError
from edgefold.staging import check_output_folder, sha256_file, staged_file, staged_folder


class Broken(Exception):
    """What interrupts a block."""


def put(folder: Path, text: str) -> None:
    (folder / "file").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_only_when_its_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "parent" / "out"
    with staged_folder(out) as staging:
        put(staging, "new")
        assert staging.parent == out.parent  # one file system: the rename is atomic
        assert not out.exists()
    assert (out / "file").read_text() == "new"
    assert names(out.parent) == ["out"]


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged_folder(tmp_path / "out") as staging:
        put(staging / "nowhere", "half")
    assert names(tmp_path) == []


@pytest.mark.parametrize("fails", [False, True])
def test_overwriting_swaps_the_folder_or_leaves_the_old_one(tmp_path: Path, fails: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    put(out, "old")
    (out / "left over").touch()
    try:
        with staged_folder(out, overwrite=True) as staging:
            put(staging, "new")
            if fails:
                raise Broken
    except Broken:
        pass
    assert names(tmp_path) == ["out"]
    assert (out / "file").read_text() == ("old" if fails else "new")
    assert names(out) == (["file", "left over"] if fails else ["file"])


def test_a_folder_in_use_is_refused_before_the_block_runs(tmp_path: Path) -> None:
    put(tmp_path, "old")
    with pytest.raises(InputError, match=r"exists and is not empty.*overwrite"), staged_folder(tmp_path):
        pytest.fail("the block must not run")
    with pytest.raises(InputError, match="is an existing file"):
        check_output_folder(tmp_path / "file", overwrite=True)


@pytest.mark.parametrize("name", ["here", "here/..", "home"])
def test_the_folder_one_is_in_and_the_home_folder_are_never_overwritten(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here", "home"):
        (tmp_path / folder).mkdir()
        put(tmp_path / folder, folder)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    out = tmp_path / name
    with pytest.raises(InputError, match=r"is or holds the folder.*choose another"), staged_folder(out, overwrite=True):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["here", "home"]
    assert (tmp_path / "here" / "file").read_text() == "here"


@pytest.mark.parametrize("name", [".", "student", "student/../student"])
def test_what_a_job_reads_is_never_overwritten_by_it(name: str, tmp_path: Path) -> None:
    student = tmp_path / "student"
    student.mkdir()
    put(student, "weights")
    with pytest.raises(InputError, match=r"is or holds .*student, which is read.*choose another folder"):
        check_output_folder(tmp_path / name, overwrite=True, reads=[student])
    beside = tmp_path / "student-onnx"
    beside.mkdir()
    put(beside, "old")
    check_output_folder(beside, overwrite=True, reads=[student])


@pytest.mark.parametrize("name", ["file", "file/out", "file/a/b", "closed/out", "closed/a/b"])
def test_a_place_where_nothing_can_be_made_is_refused(name: str, tmp_path: Path) -> None:
    put(tmp_path, "a file")
    closed = tmp_path / "closed"
    closed.symlink_to("/proc")  # where root may not make anything either
    with pytest.raises(InputError, match=r"is an existing file|cannot be made: .*; choose another place"):
        check_output_folder(tmp_path / name)
    assert names(tmp_path) == ["closed", "file"]


def test_a_place_below_folders_that_are_not_there_yet_is_left_as_it_is(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "a" / "b" / "out")
    check_output_folder(tmp_path)
    assert names(tmp_path) == []


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with staged_folder(out) as staging:
        put(staging, "new")
    assert names(out) == ["file"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, fails: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    try:
        with staged_file(path) as staging:
            staging.write_text("new")
            assert path.read_text() == "old"
            if fails:
                raise Broken
    except Broken:
        pass
    assert names(tmp_path) == ["file"]
    assert path.read_text() == ("old" if fails else "new")


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_sha256_reads_the_whole_file(tmp_path: Path, size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    (tmp_path / "file").write_bytes(content)
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()
