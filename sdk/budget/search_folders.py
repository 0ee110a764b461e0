"""The folder of a search: what is searched for lies in it first, so that no other search goes on there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgefold.errors import InputError
from edgefold.staging import check_place, staged_file


def claim_folder(out: Path, wanted: Mapping[str, Any]) -> None:
    """Write down what is searched for; refuse a folder where something else was.

    Raises:
        InputError: the folder holds another search, or no search and something else, or cannot be made.
    """
    check_place(out)
    if out.is_file():
        raise InputError(f"The output folder {out} is an existing file; choose another folder.")
    request = out / "request.json"
    if request.is_file() and json.loads(request.read_text(encoding="utf-8")) != wanted:
        raise InputError(f"{out} holds another search (see its request.json); give another folder.")
    if not request.is_file() and out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty and holds no search; give another folder.")
    (out / "trials").mkdir(parents=True, exist_ok=True)
    with staged_file(request) as staging:
        staging.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
