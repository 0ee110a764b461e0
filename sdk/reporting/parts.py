"""The parts that every report page is made of: sections, tables, figures in words, and the page that loads nothing."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from edgefold.ratios import Ratio
from edgefold.reporting.style import STYLE
from edgefold.staging import staged_file

LOADS_NOTHING = "default-src 'none'; style-src 'unsafe-inline'"
"""The content security policy: the browser itself refuses whatever the page would load."""


def write_page(title: str, sections: Iterable[str], out: Path) -> Path:
    """The whole page, written at once or not at all."""
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, '
        f'initial-scale=1"><meta http-equiv="Content-Security-Policy" content="{LOADS_NOTHING}">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    )
    with staged_file(out) as staging:
        staging.write_text(page, encoding="utf-8")
    return out


def draw_section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


def draw_for_desk_and_phone(wide: str, narrow: str) -> str:
    """The page shows the one that fits."""
    return f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>'


def draw_table(columns: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int] = (0,)) -> str:
    """A table of cells that are HTML already; the columns of these indices hold text, the others numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = (' class="text"' if index in text else "" for index in range(len(cells)))
        return f"<tr>{''.join(f'<{tag}{kind}>{cell}</{tag}>' for cell, kind in zip(cells, kinds, strict=True))}</tr>"

    head = line("th", [escape(column) for column in columns])
    body = "".join(line("td", row) for row in rows)
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def draw_ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    return draw_with_aside(f"{ratio.value:.2f}x", f"{ratio.low:.2f} to {ratio.high:.2f}")


def draw_with_aside(figure: str, uncertainty: str) -> str:
    return f'{figure}<span class="aside">{uncertainty}</span>'


def say(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    if isinstance(value, tuple):
        return ", ".join(f"{item:.2f}" if isinstance(item, float) else str(item) for item in value)
    return "-" if value is None else str(value)
