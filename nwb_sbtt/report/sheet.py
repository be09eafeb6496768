"""Style sheet and frame of the pages."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130

SHEET = """\
body { margin: 0; background: #fff; color: #222; font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .4rem; padding-top: .8rem; border-top: 1px solid #ddd; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
table { border-collapse: collapse; }
th { text-align: left; font-weight: 600; vertical-align: top; }
.facts th { padding: .1rem 1.4rem .1rem 0; color: #555; font-weight: 400; white-space: nowrap; }
.facts td { padding: .1rem 0; overflow-wrap: anywhere; }
.scores { width: 100%; margin: .6rem 0 1rem; }
.scores th, .scores td { padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid #eee; }
.scores thead th { font-size: .85rem; color: #555; }
.scores tbody th { font-weight: 400; white-space: nowrap; }
.scores .own th, .scores .own .number { font-weight: 700; }
.number { display: inline-block; width: 4rem; font-variant-numeric: tabular-nums; }
.bar { display: inline-block; width: calc(100% - 4.4rem); height: .75rem; background: #f0f0f0; vertical-align: middle; }
.bar span { display: block; height: 100%; background: #9aa5b1; }
.own .bar span { background: #0072b2; }
.checks { list-style: none; padding: 0; margin: 1rem 0; }
.checks li { margin: .4rem 0; padding: .35rem .8rem; border-left: 5px solid #009e73; background: #f6f8f7; }
.checks li.warn { border-color: #e69f00; background: #fdf8ec; }
.checks li.bad { border-color: #d55e00; background: #fcf1ea; }
figure { margin: .6rem 0 0; }
img { max-width: 100%; height: auto; display: block; }
figcaption { color: #555; font-size: .92rem; margin-top: .4rem; max-width: 46rem; }
pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; font-size: .85rem; }
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


def section_of_figure(figure: Figure, *, heading: str, caption: str, alt: str) -> str:
    """Lay out a figure with its heading and caption; the image is part of the text.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    heading, caption : str
        Plain text.
    alt : str
        Text in place of the image.

    Returns
    -------
    str
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    width, height = (round(float(inches) * 96) for inches in figure.get_size_inches())
    image = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f"<h2>{escape(heading)}</h2>\n<figure>\n"
        f'<img src="data:image/png;base64,{image}" alt="{escape(alt)}" width="{width}" height="{height}">\n'
        f"<figcaption>{escape(caption)}</figcaption>\n</figure>"
    )
