"""Addresses of dandisets, versions and files, as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from nwb_sbtt.errors import ConfigError

DRAFT = "draft"
DEFAULT_ARCHIVE = "dandi"
"""Name of the public archive; before a colon it stands for the archive that is set."""
_ID = r"(?P<dandiset>\d{6})"
_VERSION = rf"(?P<version>{DRAFT}|\d+\.\d+\.\d+)"
_NAME = r"(?P<name>[A-Za-z][\w.-]+)"
_SHORT = re.compile(rf"(?:{_NAME}:)?{_ID}(?:[/@]{_VERSION}(?=/|$))?(?:/(?P<path>.*))?", re.DOTALL)
_DANDI_URL = re.compile(rf"dandi:/+{_NAME}/{_ID}(?:@{_VERSION})?(?:/(?P<path>.*))?", re.DOTALL)
_WEB = re.compile(rf"/(?:#?/)?dandiset/{_ID}(?:/{_VERSION})?(?:/files)?/?")
_ASSET = r"(?P<asset>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?:/(?:download|info))?"
_API = re.compile(rf"(?:/api)?/dandisets/{_ID}(?:/versions(?:/{_VERSION}(?:/assets(?:/{_ASSET})?)?)?)?/?")
_API_ASSET = re.compile(rf"(?:/api)?/assets/{_ASSET}/?")
_REFERENCE = re.compile(rf"/(?:DANDI:|10\.48324/dandi\.){_ID}(?:/{_VERSION})?/?", re.IGNORECASE)
_REGISTRIES = ("identifiers.org", "doi.org", "dx.doi.org")
EXPECTED = (
    "expected 000140, DANDI:000140, DANDI:000140/0.220113.0408, DANDI:000140/draft/sub-X/FILE.nwb, dandi://NAME/000140, "
    "or the address of a dandiset or file in an archive's web pages or API"
)


@dataclass(frozen=True)
class Address:
    """Which files of which dandiset of which archive.

    Parameters
    ----------
    instance : str or None
        Name or URL of the archive; None means that of ``DANDI_INSTANCE``, or else the public one.
    dandiset : str or None
        Six digits; None where the asset's id is enough.
    version : str or None
        "draft", or that of a published version; None means the newest published one.
    path : str or None
        Of a file, or of a folder, within the dandiset.
    glob : str or None
        Pattern that the paths match; ``*`` crosses folders.
    asset_id : str or None
    """

    instance: str | None = None
    dandiset: str | None = None
    version: str | None = None
    path: str | None = None
    glob: str | None = None
    asset_id: str | None = None

    def __str__(self) -> str:
        parts = [f"DANDI:{self.dandiset}" if self.dandiset else "", self.version or "", self.path or ""]
        return "/".join(part for part in parts if part) or f"asset {self.asset_id}"


def is_address(text: Path | str) -> bool:
    """Return whether this is an address rather than a path: it has a prefix or is a URL; a bare number is a path.

    Parameters
    ----------
    text : str or Path
    """
    return re.match(rf"(?:https?|dandi):/|{_NAME}:\d{{6}}(?:[/@]|$)", str(text)) is not None


def parse_address(text: Path | str, *, instance: str | None = None) -> Address:
    """Parse an address, without any request.

    Parameters
    ----------
    text : str or Path
        A Path works too, though it has lost one of the slashes after ``https:``.
    instance : str, optional
        Name or URL of the archive, for an address that does not name it.

    Returns
    -------
    Address

    Raises
    ------
    ConfigError
        If it is not an address, or names an archive although `instance` does.

    Examples
    --------
    >>> parse_address("DANDI:000140/0.220113.0408/sub-Jenkins").path
    'sub-Jenkins'
    """
    address = _parse(str(text).strip())
    if address is None:
        raise ConfigError(f"{str(text)!r} is not an address of a dandiset; {EXPECTED}")
    if instance is not None and address.instance is not None:
        raise ConfigError(f"{str(text)!r} already names an archive; omit the instance {instance!r}")
    return address if instance is None else replace(address, instance=instance)


def narrow(
    address: Address, *, version: str | None = None, path: str | None = None, glob: str | None = None
) -> Address:
    """Add a version, a path or a glob to an address.

    Parameters
    ----------
    address : Address
    version, path, glob : str, optional
        As in `Address`.

    Returns
    -------
    Address

    Raises
    ------
    ConfigError
        If the address has another one, or there would be both a path and a glob.
    """
    parts = {"version": version, "path": path, "glob": glob}
    for name, value in parts.items():
        present = getattr(address, name)
        if value is not None and present is not None and value != present:
            raise ConfigError(f"the address already has the {name} {present!r}; omit {value!r}")
    narrowed = replace(address, **{name: value for name, value in parts.items() if value is not None})
    if narrowed.path is not None and narrowed.glob is not None:
        raise ConfigError(f"pass a path ({narrowed.path!r}) or a glob ({narrowed.glob!r}), not both")
    return narrowed


def _parse(text: str) -> Address | None:
    if match := _DANDI_URL.fullmatch(text):
        return Address(match["name"], match["dandiset"], match["version"], match["path"] or None)
    if match := re.match(r"(https?):/+(?=[^/])", text):
        return _parse_url(f"{match[1]}://{text[match.end() :]}")
    if match := _SHORT.fullmatch(text):
        name = (match["name"] or DEFAULT_ARCHIVE).lower()
        return Address(
            None if name == DEFAULT_ARCHIVE else name, match["dandiset"], match["version"], match["path"] or None
        )
    return None


def _parse_url(text: str) -> Address | None:
    url = urlsplit(text)
    # Older web pages of archives keep path and query behind a "#".
    fragment, _, query = url.fragment.partition("?")
    path = unquote(url.path.rstrip("/") + "/" + fragment if fragment else url.path)
    fields = {name: values[0] for name, values in parse_qs(query or url.query).items()}
    if url.hostname in _REGISTRIES:
        match = _REFERENCE.fullmatch(path)
        return None if match is None else Address(None, match["dandiset"], match["version"])
    instance = f"{url.scheme}://{url.netloc}"
    if match := _API_ASSET.fullmatch(path):
        return Address(instance, asset_id=match["asset"])
    if match := _WEB.fullmatch(path):
        return Address(instance, match["dandiset"], match["version"], fields.get("location", "").strip("/") or None)
    if match := _API.fullmatch(path):
        return Address(
            instance, match["dandiset"], match["version"], fields.get("path"), fields.get("glob"), match["asset"]
        )
    return None
