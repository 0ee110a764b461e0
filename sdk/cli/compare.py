"""`edgefold compare`: how many times faster, as far as reports of one run or of several can say it."""

from pathlib import Path
from typing import Annotated

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.paths import check_file
from edgefold.errors import InputError


def compare_files(
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT.json...", help="Files that bench --out wrote.")],
) -> Answer:
    """Say how the measurements in these files compare: paired where taken in turns, else with what caution."""
    for path in reports:
        check_file(path, "report")
    from edgefold.reporting.comparisons import compare_reports, pair_up
    from edgefold.reporting.files import load_named_reports

    pairs = pair_up(load_named_reports(reports))
    if not pairs:
        raise InputError(f"{reports[0]} holds one measurement; give a second file, or measure with bench --against.")
    found = [compare_reports(candidate, baseline) for candidate, baseline in pairs]
    document = {"comparisons": [comparison.model_dump(mode="json") for comparison in found]}
    return Answer(document, tuple(str(comparison) for comparison in found))
