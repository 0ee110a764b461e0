"""A command that is asked to end tidies up after itself."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgefold.cli.failures import describe_failure
from edgefold.cli.stopping import Stopped

COMMAND = """
import os, signal, sys
from edgefold.cli import application, main
from edgefold.cli.answers import Answer, answering
from edgefold.staging import staged_folder

name, ignored, out = sys.argv[1:]
number = getattr(signal, name)
usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL  # whoever runs this may ignore them
signal.signal(number, signal.SIG_IGN if ignored == "ignored" else usual)

def work() -> Answer:
    with staged_folder(out) as staging:
        (staging / "weights").write_text("half of th")
        os.kill(os.getpid(), number)
        (staging / "weights").write_text("whole")
    return Answer({}, ())

application.app.command("work")(answering(work))
sys.argv = ["edgefold", "work"]
main()
"""


def run(name: str, ignored: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", COMMAND, name, ignored, str(folder / "out")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_stopped_command_leaves_nothing_half_written(name: str, status: int, tmp_path: Path) -> None:
    result = run(name, "heeded", tmp_path)
    assert (result.returncode, list(tmp_path.iterdir())) == (status, [])
    assert result.stderr.startswith("edgefold: Interrupted")
    assert "Traceback" not in result.stderr


def test_a_signal_that_nohup_ignores_is_ignored(tmp_path: Path) -> None:
    result = run("SIGHUP", "ignored", tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "out" / "weights").read_text() == "whole"


def test_a_signal_ends_with_the_status_that_a_shell_has_for_it() -> None:
    assert describe_failure(Stopped(signal.SIGTERM)).exit_code == 128 + signal.SIGTERM
