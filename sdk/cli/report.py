"""`edgefold report`: measurements of several runs and devices on one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.paths import check_file, check_output_file


def report_files(
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT.json...", help="Files that bench --out wrote.")],
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
) -> Answer:
    """Merge measurements, of several devices if need be, into one page that loads nothing and is readable anywhere."""
    for path in reports:
        check_file(path, "report")
    check_output_file(out)
    from edgefold.benchmark_page import render_benchmarks
    from edgefold.comparisons import compare_reports, pair_up
    from edgefold.report_files import load_named_reports

    files = load_named_reports(reports)
    comparisons = [compare_reports(candidate, baseline) for candidate, baseline in pair_up(files)]
    found = [report for file in files for report in file]
    render_benchmarks(found, comparisons, out)
    document = {"out": str(out), "reports": [report.summary() for report in found]}
    return Answer(document, (f"{len(found)} measurements are on the page {out}.",))
