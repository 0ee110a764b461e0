"""A compression in a process of its own that dies by SIGKILL at a chosen step of training: nothing is tidied up."""

import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, signal, sys
from edgefold.jobs.compression import compress
from edgefold.recipes.recipe import load_recipe

recipe, out, stage, step = sys.argv[1:]

def die(name, done, total, figures):
    if (name, done) == (stage, int(step)):
        os.kill(os.getpid(), signal.SIGKILL)

compress(load_recipe(recipe), out, progress=die)
"""


def kill_in_training(recipe: Path, out: Path, step: int, stage: str = "train") -> None:
    """Run the recipe and let it be killed after this step of this stage, as progress names it."""
    command = [sys.executable, "-c", SCRIPT, str(recipe), str(out), stage, str(step)]
    assert subprocess.run(command, check=False, timeout=600).returncode == -signal.SIGKILL
