"""What is shipped: every module and py.typed, no test, and a list of packages that equals the folders."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:  # pip carries the same parser
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]


NAMESPACES = {"optimum.commands.register"}
"""Packages of others to which a file of ours is added; an __init__.py there would hide theirs (PEP 420)."""


def module_files() -> set[str]:
    """Every module of the working tree, under the name that a wheel gives it."""
    return {
        f"{package.replace('.', '/')}/{file.name}"
        for package, folder in FOLDERS.items()
        for file in (ROOT / folder).glob("*.py")
    }


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel built from a copy of the tree, so that the editable install's links stay untouched."""
    copy = tmp_path_factory.mktemp("tree")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(copy / "dist"),
        str(copy),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = (copy / "dist").glob("edgefold-*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_every_module_and_the_typing_marker(wheel_names: set[str]) -> None:
    assert (module_files() | {"edgefold/py.typed"}) - wheel_names == set()


def test_the_wheel_holds_nothing_else(wheel_names: set[str]) -> None:
    others = {name for name in wheel_names - module_files() - {"edgefold/py.typed"} if ".dist-info/" not in name}
    assert others == set()


def test_packages_equal_folders() -> None:
    found = {
        str(file.parent.relative_to(ROOT))
        for top in ("sdk", "exporters", "runtimes")
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert {folder for package, folder in FOLDERS.items() if package not in NAMESPACES} == found
    assert all(any((ROOT / FOLDERS[package]).glob("*.py")) for package in NAMESPACES)
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == set(FOLDERS)


def test_every_dependency_is_pinned_exactly() -> None:
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][^ ;+]*)( ; python_version >= \"3\.11\")?", line)
            assert match, f"constraints.txt: {line!r} is no exact pin"
            pinned[match[1].lower().replace("_", "-")] = match[2]
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    asked = {re.split(r"[\[<>=]", item)[0].lower() for group in groups for item in group} - {"edgefold"}
    assert asked - set(pinned) == set()
    assert pinned["torch"].count(".") == 2


def test_the_console_script_answers() -> None:
    script = Path(sys.executable).with_name("edgefold")
    result = subprocess.run([script, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "compress" in result.stdout
