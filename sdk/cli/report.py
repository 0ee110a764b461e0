"""`edgefold report`: measurements of several runs and devices on one HTML page, or the demo's page made again."""

from pathlib import Path
from typing import Annotated

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.paths import check_file, check_output_file
from edgefold.errors import InputError

SUMMARY = "summary.json"


def report_files(
    reports: Annotated[
        list[Path],
        typer.Argument(metavar="REPORT.json...", help="Files that bench --out wrote, or a folder of the demo."),
    ],
    out: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
) -> Answer:
    """Merge measurements, of several devices if need be, into one page that loads nothing and is readable anywhere."""
    folders = [path for path in reports if path.is_dir()]
    if folders and len(reports) > 1:
        raise InputError(f"{folders[0]} is a folder; give one folder of the demo, or files that bench --out wrote.")
    for path in reports:
        check_file(path / SUMMARY if path in folders else path, "report")
    check_output_file(out)
    return _render_demo(folders[0], out) if folders else _render_measurements(reports, out)


def _render_demo(folder: Path, out: Path) -> Answer:
    from edgefold.reporting.page import make_headline, render_report
    from edgefold.reporting.summaries import load_summary

    summary = load_summary(folder / SUMMARY)
    render_report(summary, out)
    headline = make_headline(summary)
    return Answer({"out": str(out), "headline": headline}, (headline, f"The report is {out}."))


def _render_measurements(paths: list[Path], out: Path) -> Answer:
    from edgefold.reporting.benchmark_page import render_benchmarks
    from edgefold.reporting.comparisons import compare_reports, pair_up
    from edgefold.reporting.files import load_named_reports

    files = load_named_reports(paths)
    comparisons = [compare_reports(candidate, baseline) for candidate, baseline in pair_up(files)]
    found = [report for file in files for report in file]
    render_benchmarks(found, comparisons, out)
    document = {"out": str(out), "reports": [report.summary() for report in found]}
    return Answer(document, (f"{len(found)} measurements are on the page {out}.",))
