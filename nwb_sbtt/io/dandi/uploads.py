"""Upload results to a dandiset: validated, named by DANDI's rules, linked to the files that they were derived from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from rich.filesize import decimal

from nwb_sbtt.errors import ArchiveError, ConfigError, FileError, MismatchError, SelectionError
from nwb_sbtt.io.dandi.address import DRAFT, Address, parse_address
from nwb_sbtt.io.dandi.assets import Asset, Digests, digests_of, find_assets
from nwb_sbtt.io.dandi.client import NoSuchItemError, archive_name, authenticate, call_archive, connect
from nwb_sbtt.io.dandi.downloads import Existing
from nwb_sbtt.io.progress import Advance, show_progress
from nwb_sbtt.io.read.files import open_nwb
from nwb_sbtt.io.read.outside import outside_of, refuse_outside
from nwb_sbtt.io.read.results import MODEL_TYPE
from nwb_sbtt.io.write.validation import validate

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient

Confirm = Callable[[str], bool]
"""Called with a question; False stops the upload."""
Validation = Literal["require", "ignore"]
MODALITIES = ("behavior", "ecephys", "icephys", "ophys")
"""Processing modules that DANDI names a file after."""
_NAME_SEPARATORS = r"[_*\\/<>:|\"'?%@;.,\s]"


def upload(
    path: Path | str,
    dandiset: str,
    *,
    instance: str | None = None,
    existing: Existing = "error",
    into_source: bool = False,
    validation: Validation = "require",
    confirm: Confirm | None = None,
) -> Asset:
    """Upload a result file to the draft of a dandiset.

    It is validated first, named ``sub-X/sub-X_ses-Y_desc-sbtt_ecephys.nwb`` after its subject and session, and linked to the
    dandisets that its recordings were fetched from. The API key comes from the environment or the keyring, as the dandi
    program's does.

    Parameters
    ----------
    path : path
        Written by `write_nwb`.
    dandiset : str
        Its target, such as "000123".
    instance : str, optional
        Name or URL of the archive; None takes ``DANDI_INSTANCE``, or the public one.
    existing : "error", "skip", "refresh" or "overwrite"
        What to do if the draft has a file of that name: "error" raises if its digest is another, "skip" leaves it, "refresh"
        replaces it if its digest is another, "overwrite" replaces it.
    into_source : bool
        Allow the dandiset that the recording came from.
    validation : "require" or "ignore"
        "ignore" uploads a file that dandi's own validation would refuse. Recordings older than its present rules, and hence
        their results, often lack a field, such as the subject's age; the archive accepts these.
    confirm : callable, optional
        Called with a question right before anything is written; False stops the upload.

    Returns
    -------
    Asset
        As the archive describes it.

    Raises
    ------
    FileError
        If the file cannot be read, or DANDI would refuse it.
    ConfigError
        If `dandiset` names more than a dandiset, or a setting is not valid.
    SelectionError
        If it holds no results.
    MismatchError
        If the recording came from this dandiset.
    ArchiveError
        If the archive cannot be reached, refuses, or has another file of that name; or if `confirm` returned False.

    Examples
    --------
    >>> upload("maze_latents.nwb", "000123", confirm=lambda text: input(text + " [y/N] ") == "y")  # doctest: +SKIP
    """
    path = Path(path)
    if existing not in get_args(Existing):
        raise ConfigError(f"existing is {existing!r}; expected one of {', '.join(get_args(Existing))}")
    if validation not in get_args(Validation):
        raise ConfigError(f"validation is {validation!r}; expected one of {', '.join(get_args(Validation))}")
    address = parse_address(dandiset, instance=instance)
    if address.dandiset is None or address.path or address.glob or address.version not in (None, DRAFT):
        raise ConfigError(
            f"{dandiset!r} should name a dandiset only: results go into its draft, named by DANDI's rules"
        )
    _refuse_outside(path)
    result = read_upload_result(path)
    if validation == "require":
        _refuse_invalid(path)
    client = connect(address.instance)
    _refuse_source(result, address.dandiset, client, allowed=into_source)
    plan = _Plan(path, address.dandiset, result, digests_of(path))
    authenticate(client, message=f"DANDI:{address.dandiset} cannot be written")
    old = _existing(client, plan, address)
    if old is not None and (existing == "skip" or (existing != "overwrite" and old.difference(plan.digests) is None)):
        return old
    if old is not None and existing == "error":
        raise ArchiveError(
            f"{old} exists, and its content is different: {old.difference(plan.digests)}; pass existing as 'refresh' "
            "(--existing refresh) to replace it"
        )
    if confirm is not None and not confirm(_question(client, plan, old)):
        raise ArchiveError("nothing was uploaded, because you did not confirm")
    return _send(client, plan, old)


@dataclass(frozen=True)
class UploadResult:
    """What a result file is named after on DANDI.

    Parameters
    ----------
    subject, session : str
        Ids; the session's start time where it has no id.
    names : tuple of str
        Of the results in the file.
    modalities : tuple of str
        Processing modules that hold them.
    sources : tuple of mapping
        Of each series that was read: `dandiset`, `version`, `asset_id`, `asset_path`, `archive`, where recorded.
    """

    subject: str
    session: str
    names: tuple[str, ...]
    modalities: tuple[str, ...]
    sources: tuple[Mapping[str, str], ...]

    @property
    def path(self) -> str:
        """Path within a dandiset: ``sub-X/sub-X_ses-Y_desc-sbtt_ecephys.nwb``."""
        folder = f"sub-{_plain(self.subject)}"
        parts = [folder, f"ses-{_plain(self.session)}", f"desc-{'+'.join(map(_plain, self.names))}"]
        if self.modalities:
            parts.append("+".join(self.modalities))
        return f"{folder}/{'_'.join(parts)}.nwb"


def read_upload_result(path: Path) -> UploadResult:
    """Read what a result file is named after.

    Parameters
    ----------
    path : Path

    Returns
    -------
    UploadResult

    Raises
    ------
    FileError
        If it cannot be read, or has no subject.
    SelectionError
        If it holds no results.
    """
    with open_nwb(path) as nwb:
        modules = {name: list(module.data_interfaces.values()) for name, module in nwb.processing.items()}
        records = [item for items in modules.values() for item in items if type(item).__name__ == MODEL_TYPE]
        if not records:
            raise SelectionError(
                f"{path.name!r} has no results; expected a file written by `nwb-sbtt fit --out` or `infer`"
            )
        if nwb.subject is None or not nwb.subject.subject_id:
            raise FileError(
                f"{path.name!r} has no subject_id, which DANDI needs for the name of the file; set nwbfile.subject in "
                "the recording, then write the results again"
            )
        used = {str(record.parent.name) for record in records}
        return UploadResult(
            subject=str(nwb.subject.subject_id),
            session=str(nwb.session_id or nwb.session_start_time.strftime("%Y%m%dT%H%M%S")),
            names=tuple(sorted(record.name.removesuffix("_model") for record in records)),
            modalities=tuple(name for name in MODALITIES if name in used),
            sources=tuple(row for record in records for row in _rows(record.sources)),
        )


@dataclass(frozen=True)
class _Plan:
    """A file, and where it is uploaded to."""

    path: Path
    dandiset: str
    result: UploadResult
    digests: Digests


def _refuse_outside(path: Path) -> None:
    """Refuse a file that would read other files, on whatever machine it is opened."""
    with open_nwb(path, external_data=True) as nwb:
        refuse_outside(
            path,
            outside_of(nwb),
            why="On another machine it would refer to a different file",
            remedy="write the results again, without --append",
        )


def _refuse_invalid(path: Path) -> None:
    refused = [finding for finding in validate(path) if finding.blocks]
    if refused:
        more = f" ({len(refused) - 1} more)" if len(refused) > 1 else ""
        raise FileError(
            f"DANDI would refuse {path.name!r}: {refused[0].message} To do: {refused[0].hint}{more}; `nwb-sbtt validate` lists "
            "all; if it cannot be repaired, pass validation as 'ignore' (--validation ignore)"
        )


def _refuse_source(result: UploadResult, dandiset: str, client: DandiAPIClient, *, allowed: bool) -> None:
    archive = client.api_url.rstrip("/")
    same = [
        source
        for source in result.sources
        if source.get("dandiset") == dandiset and source.get("archive", archive) in ("", archive)
    ]
    if same and not allowed:
        raise MismatchError(
            f"the recording came from DANDI:{dandiset}; upload results to another dandiset, or, if the owners of this "
            "one agree, pass into_source (--into-source)"
        )


def _existing(client: DandiAPIClient, plan: _Plan, address: Address) -> Asset | None:
    """The file that already has the name; raises if the dandiset does not exist."""
    remote = client.get_dandiset(plan.dandiset, DRAFT)
    call_archive(client, lambda: remote.draft_version, message=f"DANDI:{plan.dandiset} cannot be written")
    target = Address(address.instance, plan.dandiset, DRAFT, plan.result.path)
    matches = call_archive(
        client,
        lambda: [
            asset for asset in remote.get_assets_with_path_prefix(plan.result.path) if asset.path == plan.result.path
        ],
        message=f"{target} cannot be read",
    )
    return find_assets(target).assets[0] if matches else None


def _question(client: DandiAPIClient, plan: _Plan, old: Asset | None) -> str:
    verb = "replace" if old is not None else "add"
    sources = [source for source in plan.result.sources if source.get("dandiset")]
    derived = sorted({f"DANDI:{source['dandiset']}/{source.get('version', '')}" for source in sources})
    link = f", derived from {', '.join(derived)}" if derived else ""
    draft = f"the draft of DANDI:{plan.dandiset} on {archive_name(client)}"
    return f"{verb} {plan.result.path} ({decimal(plan.digests.size)}{link}) in {draft}?"


def _send(client: DandiAPIClient, plan: _Plan, old: Asset | None) -> Asset:
    from dandi.exceptions import SchemaVersionError

    message = f"{plan.path.name!r} cannot be uploaded"
    remote = client.get_dandiset(plan.dandiset, DRAFT)
    try:
        call_archive(client, client.check_schema_version, message=message)
        with show_progress(plan.digests.size, label=f"uploading {plan.result.path}") as advance:
            uploaded = call_archive(client, lambda: _upload(remote, plan, old, advance), message=message)
    except NoSuchItemError:
        raise ArchiveError(f"{message}: DANDI:{plan.dandiset} was changed in the meantime; try again") from None
    except (SchemaVersionError, RuntimeError) as error:
        raise ArchiveError(f"{message}: {' '.join(str(error).split())}") from None
    metadata = call_archive(client, uploaded.get_raw_metadata, message=message)
    asset = Asset(
        archive=client.api_url.rstrip("/"),
        dandiset=plan.dandiset,
        version=DRAFT,
        asset_id=uploaded.identifier,
        path=uploaded.path,
        size=uploaded.size,
        etag=metadata["digest"].get("dandi:dandi-etag"),
        sha256=metadata["digest"].get("dandi:sha2-256"),
    )
    if problem := asset.difference(plan.digests):
        raise ArchiveError(
            f"{message}: the file in the archive is different from the one that was sent: {problem}; remove {asset}"
        )
    return asset


def _upload(remote: Any, plan: _Plan, old: Asset | None, advance: Advance) -> Any:
    from dandi.files import NWBAsset
    from dandi.misctypes import Digest

    local = NWBAsset(plan.path, None, plan.result.path)
    metadata = local.get_metadata(digest=Digest.dandi_etag(plan.digests.etag), ignore_errors=False)
    metadata.relatedResource = [*(metadata.relatedResource or []), *_derived_from(plan.result.sources)] or None
    metadata.wasGeneratedBy = [*(metadata.wasGeneratedBy or []), _activity()]
    replacing = None if old is None else remote.get_asset(old.asset_id)
    sent = 0
    for status in local.iter_upload(remote, metadata.model_dump(mode="json", exclude_none=True), replacing=replacing):
        if "current" in status:
            advance(status["current"] - sent)
            sent = status["current"]
        if status["status"] == "done":
            return status["asset"]
    raise RuntimeError("the upload ended without an asset")


def _derived_from(sources: tuple[Mapping[str, str], ...]) -> list[Any]:
    """Links to the files of dandisets that were read, one each."""
    from dandischema.models import RelationType, Resource

    by_asset = {source["asset_id"]: source for source in sources if source.get("dandiset") and source.get("asset_id")}
    return [
        Resource.model_validate(
            {
                "identifier": f"DANDI:{source['dandiset']}/{source['version']}",
                "name": source.get("asset_path"),
                "url": f"{source['archive']}/assets/{asset_id}/" if source.get("archive") else None,
                "relation": RelationType.IsDerivedFrom,
            }
        )
        for asset_id, source in by_asset.items()
    ]


def _activity() -> Any:
    """The activity of this program that made the results."""
    from dandischema.models import Activity, Software

    software = Software.model_validate({"name": "nwb_sbtt", "version": version("nwb_sbtt")})
    return Activity.model_validate({"name": "Inference of rates and latents", "wasAssociatedWith": [software]})


def _rows(table: Any) -> list[dict[str, str]]:
    if table is None:
        return []
    columns = {column.name: np.asarray(column.data[:]).tolist() for column in table.columns}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [
        {key: value.decode() if isinstance(value, bytes) else str(value) for key, value in row.items()} for row in rows
    ]


def _plain(text: str) -> str:
    """Replace characters that separate the parts of a name or are not allowed in one, as dandi does."""
    return re.sub(_NAME_SEPARATORS, "-", text.strip())
