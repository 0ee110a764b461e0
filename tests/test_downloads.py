"""A package is fetched once, verified by pip and by us, and a fetch that fails leaves nothing behind."""

import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgefold.errors import EdgefoldError, InputError
from edgefold.packaged.downloads import Package, fetch


def make_wheel(folder: Path) -> Package:
    path = folder / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        archive.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.dist-info/RECORD", "")
    return _package(path)


def make_source_package(folder: Path, marker: Path) -> Package:
    path = folder / "tiny-1.tar.gz"
    script = f"open({str(marker)!r}, 'w').close()".encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("setup.py", script), ("PKG-INFO", b"Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")):
            info = tarfile.TarInfo(f"tiny-1/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return _package(path)


def _package(path: Path) -> Package:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Package("tiny==1", path.name, digest, ("--no-index", "--find-links", str(path.parent)))


def wrong(package: Package) -> Package:
    return Package(package.requirement, package.file, "0" * 64, package.options)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    return folder


def test_pip_fetches_it_once(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, cache = make_wheel(index), tmp_path / "cache"
    assert fetch(package, cache).read_bytes() == (index / package.file).read_bytes()
    assert [path.name for path in cache.iterdir()] == [package.file]
    monkeypatch.setattr(subprocess, "run", None)  # a second fetch would fail
    assert fetch(package, cache) == cache / package.file


def test_a_source_package_of_another_checksum_is_not_executed(index: Path, tmp_path: Path) -> None:
    package, cache = make_source_package(index, tmp_path / "executed"), tmp_path / "cache"
    with pytest.raises(EdgefoldError, match="could not fetch tiny==1"):
        fetch(wrong(package), cache)
    assert not (tmp_path / "executed").exists()
    assert list(cache.iterdir()) == []


def test_a_fetched_file_is_verified_even_if_pip_did_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("tiny==1", "tiny.whl", "0" * 64, ())

    def careless_pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        (Path(command[command.index("--dest") + 1]) / package.file).write_bytes(b"tampered")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", careless_pip)
    with pytest.raises(EdgefoldError, match=r"What pip fetched as tiny\.whl is not the tiny==1.*expected 0000"):
        fetch(package, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupted_fetch_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted_pip(command: list[str], **_: Any) -> None:
        (Path(command[command.index("--dest") + 1]) / "tiny.whl").write_bytes(b"half of i")
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted_pip)
    with pytest.raises(KeyboardInterrupt):
        fetch(Package("tiny==1", "tiny.whl", "0" * 64, ()), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("stderr", "told"),
    [
        ("/usr/bin/python: No module named pip\n", "/usr/bin/python: No module named pip"),
        ("WARNING: x\nERROR: No space left\nNOTE: y\n", "ERROR: No space left"),
        ("WARNING: Retrying after connection broken by 'z'\nERROR: none\n", "the package index cannot be reached"),
        ("", "pip ended with status 1"),
    ],
)
def test_what_pip_said_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, told: str) -> None:
    failed = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(EdgefoldError, match=f"it said: {told}"):
        fetch(Package("tiny==1", "tiny.whl", "0" * 64, ()), tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"The cache .*file cannot be written \(.*\); set EDGEFOLD_CACHE"):
        fetch(Package("tiny==1", "tiny.whl", "0" * 64, ()), tmp_path / "file")
