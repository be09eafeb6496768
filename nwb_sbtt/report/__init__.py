"""The self-contained HTML page of a fit, and tables for the terminal.

Imports `plot`, `atomic` and `errors`; never a file of data, never torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "write_report": "page",
}
__all__ = [*_HOMES]

if TYPE_CHECKING:
    from nwb_sbtt.report.page import write_report as write_report
else:
    __getattr__, __dir__ = attach(__name__, _HOMES)
