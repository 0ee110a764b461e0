"""Reports in JSON files, as `edgefold bench` and the demo write them: one, a list, or several by name."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgefold.errors import InputError
from edgefold.reports import Report


def load_reports(path: str | Path) -> list[Report]:
    """Every report of a file, in its order.

    Raises:
        InputError: no such file, no JSON, or something that is no report.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"There is no report {path}; give a JSON file that edgefold bench --out wrote.") from None
    except OSError as error:
        raise InputError(f"The report {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"The report {path} is no JSON: {error}.") from None
    found = _candidates(document)
    if not found:
        raise InputError(f"{path} holds no report; give a JSON file that edgefold bench --out wrote.")
    return [_read(item, f"{path}, report {number}") for number, item in enumerate(found, 1)]


def load_named_reports(paths: list[Path]) -> list[list[Report]]:
    """The reports of each file; a label that stands in several files, or twice in one, is told apart.

    Raises:
        InputError: as `load_reports`.
    """
    files = [load_reports(path) for path in paths]
    names = _name_files(paths)
    labels = [report.label for file in files for report in file]
    return [
        [
            report
            if labels.count(report.label) == 1
            else report.model_copy(update={"label": _tell_apart(report, file, name, len(files) > 1)})
            for report in file
        ]
        for file, name in zip(files, names, strict=True)
    ]


def _candidates(document: Any) -> list[Any]:
    """What may be reports: those of bench, the values of the demo's table, or the one that the file is."""
    if not isinstance(document, dict):
        return []
    if "times_s" in document:
        return [document]
    reports = document.get("reports", list(document.values()))
    return reports if isinstance(reports, list) else []


def _read(item: Any, where: str) -> Report:
    try:
        return Report.model_validate(item)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "as a whole"
        raise InputError(f"{where}, is not a report of edgefold: {field}: {first['msg']}.") from None


def _name_files(paths: list[Path]) -> list[str]:
    stems = [path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem} ({number})" for number, stem in enumerate(stems, 1)]


def _tell_apart(report: Report, file: list[Report], name: str, several: bool) -> str:
    label = f"{report.label}, {name}" if several else report.label
    same = [other for other in file if other.label == report.label]
    if len(same) == 1:
        return label
    batches = [other.batch_size for other in same]
    if len(set(batches)) == len(batches):
        return f"{label}, batch {report.batch_size}"
    return f"{label} ({1 + next(i for i, other in enumerate(same) if other is report)})"
