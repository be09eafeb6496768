"""DANDI archives: find, fetch, stream, check and share files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "download": "downloads",
    "upload": "uploads",
    "validate": ".write.validation",
}
__all__ = [*_HOMES]

if TYPE_CHECKING:
    from nwb_sbtt.io.dandi.downloads import download as download
    from nwb_sbtt.io.dandi.uploads import upload as upload
    from nwb_sbtt.io.write.validation import validate as validate
else:
    __getattr__, __dir__ = attach(__name__, _HOMES)
