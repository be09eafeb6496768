"""Style sheet and frame of the pages."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130

SHEET = """\
:root { color-scheme: light dark; --page: #fff; --ink: #222; --soft: #555; --line: #ddd; --faint: #eee; --box: #f6f6f6;
  --bar: #f0f0f0; --other: #9aa5b1; --own: #0072b2; --good: #f3f8f6; --warn: #fdf8ec; --bad: #fcf1ea; --pill: #eef0f2;
  --pill-bad: #f8dccb; --pill-warn: #fbebc8; --link: #0b5fa5; }
@media (prefers-color-scheme: dark) { :root { --page: #16181b; --ink: #e6e6e6; --soft: #a9b0b7; --line: #3a3f45;
  --faint: #2a2e33; --box: #202429; --bar: #2a2e33; --other: #7b8794; --own: #56b4e9; --good: #16251f; --warn: #2b2412;
  --bad: #2f1d13; --pill: #2a2e33; --pill-bad: #5a2a14; --pill-warn: #4d3b0c; --link: #7cc1f2; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--line); }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
a { color: var(--link); }
table { border-collapse: collapse; max-width: 100%; }
th { text-align: left; font-weight: 600; vertical-align: top; }
.contents { display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 1rem 0; padding: 0; list-style: none; font-size: .92rem; }
.facts th { padding: .1rem 1.4rem .1rem 0; color: var(--soft); font-weight: 400; white-space: nowrap; }
.facts td { padding: .1rem 0; }
.wide { overflow-x: auto; overflow-wrap: normal; }
.scores { width: 100%; margin: .6rem 0 1rem; }
.scores th, .scores td { padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--faint); }
.scores thead th { font-size: .85rem; color: var(--soft); }
.scores tbody th { font-weight: 400; min-width: 8rem; }
.scores .own th, .scores .own .number { font-weight: 700; }
.number { display: inline-block; width: 4rem; font-variant-numeric: tabular-nums; }
.bar { display: inline-block; width: calc(100% - 4.4rem); height: .75rem; background: var(--bar); vertical-align: middle; }
.bar span { display: block; height: 100%; background: var(--other); }
.own .bar span { background: var(--own); }
.checks { list-style: none; padding: 0; margin: 1rem 0; }
.checks li { margin: .4rem 0; padding: .35rem .8rem; border-left: 5px solid #009e73; background: var(--good); }
.checks li.warn { border-color: #e69f00; background: var(--warn); }
.checks li.bad { border-color: #d55e00; background: var(--bad); }
figure { margin: .6rem 0 0; }
img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .92rem; margin-top: .4rem; max-width: 46rem; }
pre { overflow-x: auto; overflow-wrap: normal; background: var(--box); padding: .8rem; font-size: .85rem; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .82rem; }
@media (max-width: 40rem) {
  main { padding: 1rem .8rem 3rem; }
  .facts, .facts tbody, .facts tr, .facts th, .facts td { display: block; }
  .facts th { padding: .4rem 0 0; white-space: normal; font-size: .85rem; }
  .scores th, .scores td { padding-right: .6rem; }
  .scores .bar { display: none; }
}
@media print { main { max-width: none; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


def document(title: str, body: str, *, style: str = "") -> str:
    """Put the body of a page into a whole document, which needs no other file.

    Parameters
    ----------
    title : str
        Plain text.
    body : str
        HTML.
    style : str
        Further rules of the style sheet.

    Returns
    -------
    str
    """
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{SHEET}{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def heading_of(text: str) -> str:
    """Lay out the heading of a section, which a list of contents can lead to.

    Parameters
    ----------
    text : str
        Plain text.

    Returns
    -------
    str
    """
    return f'<h2 id="{_anchor(text)}">{escape(text)}</h2>'


def contents_of(body: str) -> str:
    """List the sections of a page, each with a link to it.

    Parameters
    ----------
    body : str
        HTML with the headings of `heading_of`.

    Returns
    -------
    str
        Empty where there are fewer than three.
    """
    found = re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', body)
    items = "\n".join(f'<li><a href="#{anchor}">{text}</a></li>' for anchor, text in found)
    return f'<nav aria-label="Contents"><ul class="contents">\n{items}\n</ul></nav>' if len(found) > 2 else ""


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def section_of_figure(draw: Callable[[], Figure], *, heading: str, caption: str, alt: str) -> str:
    """Lay out a figure with its heading and caption; the images, for light and for dark screens, are part of the text.

    Parameters
    ----------
    draw : callable
        Draws the figure in the theme of `nwb_sbtt.plot.style`; called once for each.
    heading, caption : str
        Plain text.
    alt : str
        Text in place of the image.

    Returns
    -------
    str
    """
    from nwb_sbtt.plot.style import DARK, drawn_in  # matplotlib, which tables for the terminal do without

    with drawn_in(DARK):
        dark = _address(draw())
    figure = draw()
    width, height = (round(float(inches) * 96) for inches in figure.get_size_inches())
    return (
        f"{heading_of(heading)}\n<figure>\n<picture>\n"
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">\n'
        f'<img src="{_address(figure)}" alt="{escape(alt)}" width="{width}" height="{height}">\n'
        f"</picture>\n<figcaption>{escape(caption)}</figcaption>\n</figure>"
    )


def _address(figure: Figure) -> str:
    """A figure as an address that holds it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
