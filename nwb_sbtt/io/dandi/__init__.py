"""DANDI archives: list, download, stream and upload files.

`address` parses what people write, `client` talks to an archive, `assets` lists its files; `transfer` requests their bytes,
which `downloads` puts on the disk (under `targets`, with a record of their `origin`), `stream` reads in ranges and `cache`
keeps; `locations` chooses between these for a reader. `uploads` names, checks and uploads results.
"""

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
