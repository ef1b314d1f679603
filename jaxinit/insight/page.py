"""The page of a report: one HTML file without other files."""

import html
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import svg, table
from .charts import charts, histogram


def page(report: Any, title: str) -> str:
    """A whole HTML document.

    Args:
        report: The report.
        title: The title.
    """
    heading = html.escape(title)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{heading}</title><link rel="icon" href="data:,">\n'
        "<style>body { margin: 0 } .jaxinit-report { min-height: 100vh }</style>\n"
        f"</head><body>{fragment(report, f'<h1>{heading}</h1>')}</body></html>\n"
    )


def fragment(report: Any, heading: str = "") -> str:
    """A part of a document, for notebooks. Its style and scripts stay inside it."""
    drawn = [
        _figure(chart.title, svg.chart(chart), chart.note) for chart in charts(report)
    ]
    parts = [
        heading,
        _verdicts(report),
        _summary(report),
        f'<div class="charts">{"".join(drawn)}{_histograms(report)}</div>',
        _places(report),
    ]
    style = Path(__file__).with_name("page.css").read_text("utf-8")
    return f'<div class="jaxinit-report"><style>{style}</style>{"".join(parts)}</div>'


def _verdicts(report: Any) -> str:
    if not report.verdicts:
        return '<p class="verdict ok"><b>healthy</b> No fault found.</p>'
    return "".join(
        f'<p class="verdict {"fault" if v.is_fault else "note"}">'
        f"<b>{'fault' if v.is_fault else 'note'}</b> {html.escape(v.text)}</p>"
        for v in report.verdicts
    )


def _summary(report: Any) -> str:
    items = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd></div>"
        for name, text in table.summary(report)
    )
    return f"<dl>{items}</dl>"


def _figure(title: str, picture: str, note: str) -> str:
    caption = f"<figcaption><b>{title}</b> {note}</figcaption>"
    return f"<figure>{caption}{picture}</figure>"


def _histograms(report: Any) -> str:
    rows = [row for row in report.rows if row.histogram is not None]
    if not rows:
        return ""
    found = [histogram(row.histogram) for row in rows]
    options = "".join(
        f'<option value="{"|".join(svg.bars(drawn))}">'
        f"{html.escape(f'{row.name} {row.kind}')}</option>"
        for row, drawn in zip(rows, found, strict=True)
    )
    choose = (
        "const [bars, curve] = this.value.split('|'), "
        "figure = this.closest('figure');"
        "figure.querySelector('.bars').setAttribute('d', bars);"
        "figure.querySelector('.curve').setAttribute('transform', curve)"
    )
    select = (
        f'<select aria-label="Place of the histogram" autocomplete="off" '
        f'onchange="{choose}">{options}</select>'
    )
    note = (
        "Elements of the result of one place, and a normal curve. The outer bars also "
        f"count the elements beyond. {select}"
    )
    return _figure("Histogram", svg.histogram(found[0]), note)


def _places(report: Any) -> str:
    """The table, and the field that filters its rows."""
    columns = [
        (head, field)
        for head, field in table.COLUMNS
        if any(getattr(row, field) is not None for row in report.rows)
    ]
    heads = "".join(f'<th scope="col">{head}</th>' for head, _ in columns)
    fields = [field for _, field in columns]
    rows = "".join(
        f'<tr data-words="{_words(row)}"><th scope="row">{_broken(row.name)}</th>'
        f"<td>{html.escape(row.kind)}</td>{_cells(row, fields)}"
        f"<td>{html.escape(row.activation or '')}</td></tr>"
        for row in report.rows
    )
    count = len(report.rows)
    search = (
        "const words = this.value.toLowerCase().split(' '), "
        "report = this.closest('.jaxinit-report');"
        "let count = 0;"
        "for (const row of report.querySelectorAll('tbody tr')) {"
        "row.hidden = !words.every(word => row.dataset.words.includes(word));"
        "count += !row.hidden }"
        f"report.querySelector('output').value = count + ' of {count} places'"
    )
    return (
        '<p class="search"><input type="search" placeholder="Search places" '
        f'aria-label="Search places" autocomplete="off" oninput="{search}"> '
        f"<output>{count} places</output></p>"
        '<div class="table" tabindex="0" role="region" aria-label="Places"><table>'
        f'<thead><tr><th scope="col">place</th><th scope="col">kind</th>{heads}'
        f'<th scope="col">activation</th></tr></thead><tbody>{rows}</tbody></table>'
        "</div>"
    )


def _words(row: Any) -> str:
    """The text that the search field searches."""
    return html.escape(f"{row.name} {row.kind} {row.activation or ''}".lower())


def _broken(path: str) -> str:
    """A path that may continue on another line after a slash."""
    return html.escape(path).replace("/", "/<wbr>")


def _cells(row: Any, fields: Sequence[str]) -> str:
    values = [getattr(row, field) for field in fields]
    return "".join(
        f'<td class="bad">{table.cell(x)}</td>'
        if x is not None and not math.isfinite(x)
        else f"<td>{table.cell(x)}</td>"
        for x in values
    )
