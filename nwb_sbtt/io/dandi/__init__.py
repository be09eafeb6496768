"""DANDI archives: find, fetch, stream, check and share files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nwb_sbtt.lazy import attach

_HOMES = {
    "download": "download",
    "upload": "upload",
    "validate": ".write.validation",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from nwb_sbtt.io.dandi.download import download as download
    from nwb_sbtt.io.dandi.upload import upload as upload
    from nwb_sbtt.io.write.validation import validate as validate
