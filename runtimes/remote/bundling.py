"""The agent as one Python file, and the command that starts it on a device."""

import hashlib
import inspect
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from edgefold import openvino_modules
from edgefold.runtimes import agent
from edgefold.runtimes.agent import loading

STARTER = (
    "import sys, hashlib; "
    'sys.version_info < (3, 8) and sys.exit("edgefold-agent: Python " + sys.version.split()[0] + " is too old"); '
    "i = sys.stdin.buffer; n, h = i.readline().decode().split(); s = i.read(int(n)); "
    'hashlib.sha256(s).hexdigest() == h or sys.exit("edgefold-agent: it arrived corrupt"); '
    'exec(compile(s, "edgefold-agent", "exec"), dict(__name__="__main__", SOURCE=s))'
)
"""Reads the agent from stdin, checks it, runs it; stdin goes on as the agent's. No character of it means anything to a
shell within single quotes."""


@dataclass(frozen=True)
class Bundle:
    """The agent's text."""

    source: bytes
    version: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.source).hexdigest()

    @property
    def preamble(self) -> bytes:
        """What STARTER reads."""
        return f"{len(self.source)} {self.sha256}\n".encode() + self.source


def bundle_agent() -> Bundle:
    """One Python file with a table of sources: every module of edgefold.runtimes.agent, and the one of sdk/ that these
    import; the same text for the same sources.
    """
    package = agent.__name__
    folder = Path(inspect.getfile(agent)).parent
    sources = {f"{package}.{path.stem}": path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))}
    sources[package] = sources.pop(f"{package}.__init__")
    sources[openvino_modules.__name__] = inspect.getsource(openvino_modules)
    parents = {package.rsplit(".", depth)[0]: "" for depth in range(1, package.count(".") + 1)}
    number = version("edgefold")
    text = (
        f"{inspect.getsource(loading)}\n\ninstall({ {**parents, **sources}!r})\n"
        f"from {package}.serving import main\n\n"
        f'main(globals().get("SOURCE") or open(__file__, "rb").read(), {number!r})\n'
    )
    return Bundle(text.encode(), number)
