"""What a killed process left beside its output goes with the next run; what a living one writes stays."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgefold.staged_siblings import held_folder, remove_abandoned, sibling
from edgefold.staging import staged_folder

KILLED = """
import os, signal, sys
from edgefold.staging import staged_folder

with staged_folder(sys.argv[1]) as staging:
    (staging / "weights").write_text("half of th")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.")
    assert left.name.endswith(".part")
    with staged_folder(out) as staging:
        (staging / "weights").write_text("whole")
    assert names(tmp_path) == ["out"]


def test_a_living_writer_keeps_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged_folder(out) as first:
        with staged_folder(out) as second:
            assert first.is_dir()
            (second / "file").write_text("second")
        (first / "file").write_text("first")
        out.rename(tmp_path / "second")
    assert (out / "file").read_text() == "first"


@pytest.mark.parametrize(
    "name", [".out.0123456.part", ".out.v2.01234567.part", ".other.01234567.part", "out.01234567.part", ".out.part"]
)
def test_what_bears_another_name_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / ".out.89abcdef.part").mkdir()
    remove_abandoned(tmp_path / "out")
    assert names(tmp_path) == [name]


def test_a_retired_folder_goes_only_beside_the_one_that_took_its_place(tmp_path: Path) -> None:
    out, retired = tmp_path / "out", sibling(tmp_path / "out", "old")
    retired.mkdir()
    remove_abandoned(out)
    assert retired.is_dir()
    out.mkdir()
    remove_abandoned(out)
    assert names(tmp_path) == ["out"]


def test_a_folder_is_let_go_at_the_end_of_its_block(tmp_path: Path) -> None:
    staging = sibling(tmp_path / "out", "part")
    with held_folder(staging):
        remove_abandoned(tmp_path / "out")
        assert staging.is_dir()
    remove_abandoned(tmp_path / "out")
    assert names(tmp_path) == []
