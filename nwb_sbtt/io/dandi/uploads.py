"""A result into a dandiset: checked, named DANDI's way, linked to what it was derived from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rich.filesize import decimal

from nwb_sbtt.errors import ArchiveError, ConfigError, FileError, MismatchError
from nwb_sbtt.io.dandi.address import DRAFT, Address, parse_address
from nwb_sbtt.io.dandi.assets import Asset, find_assets
from nwb_sbtt.io.dandi.client import NotThereError, ask, authenticate, connect, place
from nwb_sbtt.io.dandi.digests import Digests, digests_of
from nwb_sbtt.io.dandi.downloads import Existing
from nwb_sbtt.io.dandi.naming import Result, read_result_facts
from nwb_sbtt.io.dandi.progress import shown
from nwb_sbtt.io.write.validation import validate

if TYPE_CHECKING:
    from dandi.dandiapi import DandiAPIClient

Confirm = Callable[[str], bool]
Validation = Literal["require", "ignore"]


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
    """Put a result file into the draft of a dandiset.

    It is validated first, named ``sub-X/sub-X_ses-Y_desc-sbtt_ecephys.nwb`` after its subject and session, and linked to the
    dandisets that its recordings were fetched from. The key comes from the environment or the keyring, as the dandi
    program's does.

    Parameters
    ----------
    path : path
        What `write_nwb` wrote.
    dandiset : str
        Where it goes, such as "000123".
    instance : str, optional
        Name or URL of the archive; None takes ``DANDI_INSTANCE``, or the public one.
    existing : "error", "skip", "refresh" or "overwrite"
        What to do where a file of that name is in the draft: stop if it is another one, leave it whatever it is, replace it
        if it is another one, or replace it.
    into_source : bool
        Whether it may go into the very dandiset that its recording came from.
    validation : "require" or "ignore"
        Whether a file that dandi's own validation would refuse may go nevertheless. Recordings from before its present rules
        often lack something, such as the subject's age, and their results with them; the archive takes these.
    confirm : callable, optional
        Asked, with what is about to happen, right before anything is written; False ends it.

    Returns
    -------
    Asset
        As the archive has it.

    Raises
    ------
    FileError
        If the file cannot be read, or DANDI would refuse it.
    SelectionError
        If it holds no results.
    MismatchError
        If the dandiset is the source's own.
    ArchiveError
        If the archive cannot be reached, refuses, or has another file of that name; or if `confirm` said no.

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
            f"{dandiset!r} should name a dandiset and no more: results go into its draft, under DANDI's names"
        )
    result = read_result_facts(path)
    if validation == "require":
        _refuse_invalid(path)
    client = connect(address.instance)
    _refuse_source(result, address.dandiset, client, allowed=into_source)
    plan = _Plan(path, address.dandiset, result, digests_of(path))
    authenticate(client, purpose=f"DANDI:{address.dandiset} cannot be written")
    old = _existing(client, plan, address)
    if old is not None and (existing == "skip" or (existing != "overwrite" and old.unlike(plan.digests) is None)):
        return old
    if old is not None and existing == "error":
        raise ArchiveError(
            f"{old} is there and is another file: {old.unlike(plan.digests)}; pass existing as 'refresh' to replace it"
        )
    if confirm is not None and not confirm(_question(client, plan, old)):
        raise ArchiveError("nothing was written: not confirmed")
    return _send(client, plan, old)


@dataclass(frozen=True)
class _Plan:
    """What goes where."""

    path: Path
    dandiset: str
    result: Result
    digests: Digests


def _refuse_invalid(path: Path) -> None:
    wrong = [each for each in validate(path) if each.blocks]
    if wrong:
        more = f" ({len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise FileError(
            f"DANDI would refuse {path.name!r}: {wrong[0].message} To do: {wrong[0].hint}{more}; `nwb-sbtt validate` lists "
            "all; if it cannot be mended, pass validation as 'ignore' (--validation ignore)"
        )


def _refuse_source(result: Result, dandiset: str, client: DandiAPIClient, *, allowed: bool) -> None:
    here = client.api_url.rstrip("/")
    own = [
        each for each in result.sources if each.get("dandiset") == dandiset and each.get("archive", here) in ("", here)
    ]
    if own and not allowed:
        raise MismatchError(
            f"the recording came from DANDI:{dandiset} itself; results belong into a dandiset of their own, unless its owners "
            "agree: then pass into_source (--into-source)"
        )


def _existing(client: DandiAPIClient, plan: _Plan, address: Address) -> Asset | None:
    """The file that has the name already; raises where the dandiset is not there."""
    remote = client.get_dandiset(plan.dandiset, DRAFT)
    ask(client, lambda: remote.draft_version, what=f"DANDI:{plan.dandiset} cannot be written")
    wanted = Address(address.instance, plan.dandiset, DRAFT, plan.result.path)
    found = ask(
        client,
        lambda: [
            each for each in remote.get_assets_with_path_prefix(plan.result.path) if each.path == plan.result.path
        ],
        what=f"{wanted} cannot be read",
    )
    return find_assets(wanted).assets[0] if found else None


def _question(client: DandiAPIClient, plan: _Plan, old: Asset | None) -> str:
    verb = "replace" if old is not None else "add"
    known = [each for each in plan.result.sources if each.get("dandiset")]
    derived = sorted({f"DANDI:{each['dandiset']}/{each.get('version', '')}" for each in known})
    link = f", derived from {', '.join(derived)}" if derived else ""
    where = f"the draft of DANDI:{plan.dandiset} on {place(client)}"
    return f"{verb} {plan.result.path} ({decimal(plan.digests.size)}{link}) in {where}?"


def _send(client: DandiAPIClient, plan: _Plan, old: Asset | None) -> Asset:
    from dandi.exceptions import SchemaVersionError

    what = f"{plan.path.name!r} cannot be uploaded"
    remote = client.get_dandiset(plan.dandiset, DRAFT)
    try:
        ask(client, client.check_schema_version, what=what)
        with shown(plan.digests.size, label=f"uploading {plan.result.path}") as told:
            made = ask(client, lambda: _upload(remote, plan, old, told), what=what)
    except NotThereError:
        raise ArchiveError(f"{what}: DANDI:{plan.dandiset} changed meanwhile; try again") from None
    except (SchemaVersionError, RuntimeError) as error:
        raise ArchiveError(f"{what}: {' '.join(str(error).split())}") from None
    metadata = ask(client, made.get_raw_metadata, what=what)
    asset = Asset(
        archive=client.api_url.rstrip("/"),
        dandiset=plan.dandiset,
        version=DRAFT,
        asset_id=made.identifier,
        path=made.path,
        size=made.size,
        etag=metadata["digest"].get("dandi:dandi-etag"),
        sha256=metadata["digest"].get("dandi:sha2-256"),
    )
    if problem := asset.unlike(plan.digests):
        raise ArchiveError(f"{what}: the archive has something else than was sent: {problem}; remove {asset}")
    return asset


def _upload(remote: Any, plan: _Plan, old: Asset | None, told: Callable[[int], None]) -> Any:
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
            told(status["current"] - sent)
            sent = status["current"]
        if status["status"] == "done":
            return status["asset"]
    raise RuntimeError("the upload ended without an asset")


def _derived_from(sources: tuple[Mapping[str, str], ...]) -> list[Any]:
    """One link to each file of a dandiset that was read."""
    from dandischema.models import RelationType, Resource

    known = {each["asset_id"]: each for each in sources if each.get("dandiset") and each.get("asset_id")}
    return [
        Resource.model_validate(
            {
                "identifier": f"DANDI:{each['dandiset']}/{each['version']}",
                "name": each.get("asset_path"),
                "url": f"{each['archive']}/assets/{asset_id}/" if each.get("archive") else None,
                "relation": RelationType.IsDerivedFrom,
            }
        )
        for asset_id, each in known.items()
    ]


def _activity() -> Any:
    """That this program made the results."""
    from dandischema.models import Activity, Software

    software = Software.model_validate({"name": "nwb_sbtt", "version": version("nwb_sbtt")})
    return Activity.model_validate({"name": "Inference of rates and latents", "wasAssociatedWith": [software]})
