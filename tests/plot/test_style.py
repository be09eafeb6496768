"""Pictures for light and for dark pages."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure

from nwb_sbtt import plot
from nwb_sbtt.plot.style import DARK, LIGHT, Theme, drawn_in, styled, theme
from tests.support.estimates import inferred, simulated

GREATER = 3.0
"""Contrast of graphics by the Web Content Accessibility Guidelines; that of text is 4.5."""


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    rgb = np.array(to_rgb(colour))
    return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@styled
def empty_axes() -> Axes:
    return Figure().add_subplot()


def test_a_theme_holds_as_long_as_it_is_asked_for() -> None:
    with pytest.raises(ZeroDivisionError), drawn_in(DARK):
        assert theme() is DARK
        raise ZeroDivisionError
    assert theme() is LIGHT


@pytest.mark.parametrize("chosen", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_lines_stand_out_from_the_paper(chosen: Theme) -> None:
    assert min(contrast(chosen.paper, chosen.ink), contrast(chosen.paper, chosen.grey)) >= 4.5
    with drawn_in(chosen):
        ax = empty_axes()
    assert to_hex(ax.get_facecolor()) == to_hex(ax.figure.get_facecolor()) == chosen.paper
    assert ax.xaxis.label.get_color() == chosen.ink


def test_the_palette_is_read_on_dark_paper() -> None:
    from nwb_sbtt.plot.colours import CATEGORIES

    assert min(contrast(DARK.paper, colour) for colour in CATEGORIES) >= GREATER


def test_a_count_of_zero_has_the_colour_of_the_paper_and_missing_entries_another() -> None:
    ds = simulated()
    for chosen in (LIGHT, DARK):
        with drawn_in(chosen):
            image = plot.mask(ds, ax=Figure().add_subplot()).images[0]
        assert image.cmap(0) == to_rgba(chosen.paper)
        assert tuple(image.cmap.get_bad()) == to_rgba(chosen.missing)


def test_measured_lines_are_ink() -> None:
    ds = simulated()
    with drawn_in(DARK):
        ax = plot.traces(ds, inferred(ds), ax=Figure().add_subplot())
    colours = {to_hex(line.get_color()) for line in ax.lines}
    assert DARK.ink in colours and LIGHT.ink not in colours
