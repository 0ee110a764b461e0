"""The folder of a search is refused before anything is measured where it cannot be had."""

from pathlib import Path

import pytest

from edgefold.budget.search_folders import claim_folder
from edgefold.errors import InputError


@pytest.mark.parametrize(
    ("name", "message"),
    [("file", "is an existing file; choose"), ("file/out", "Not a directory; choose another place")],
)
def test_a_place_where_no_folder_can_be_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=message):
        claim_folder(tmp_path / name, {})
    assert (tmp_path / "file").read_text() == "mine"


def test_the_same_search_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "search"
    for _ in range(2):
        claim_folder(out, {"keep": 0.99})
    with pytest.raises(InputError, match="holds another search"):
        claim_folder(out, {"keep": 0.98})
