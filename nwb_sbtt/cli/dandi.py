"""The verbs of the command line that have to do with DANDI archives; `cli` registers them."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from nwb_sbtt.errors import ConfigError

Where = Annotated[
    str | None, typer.Option("--instance", help="name or URL of the archive [default: $DANDI_INSTANCE, dandi]")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


class Existing(StrEnum):
    """What to do where a file is there already."""

    error = "error"
    skip = "skip"
    refresh = "refresh"
    overwrite = "overwrite"


class Validation(StrEnum):
    """What to do with a file that would be refused."""

    require = "require"
    ignore = "ignore"


def download(
    address: Annotated[
        str, typer.Argument(help="000140, DANDI:000140/VERSION[/PATH], or a web or API address", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="folder; files lie below it as 000140/sub-X/…")] = Path(),
    version: Annotated[str | None, typer.Option(help="a version, or draft [default: the newest published]")] = None,
    glob: Annotated[str | None, typer.Option(help="only files whose path matches, e.g. '*train*.nwb'")] = None,
    asset: Annotated[str | None, typer.Option(metavar="PATH", help="one file, or the files of one folder")] = None,
    instance: Where = None,
    existing: Annotated[
        Existing, typer.Option(help="where another file is there; overwrite: whatever is there")
    ] = Existing.error,
    jobs: Annotated[int, typer.Option(min=1, help="files at once")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be fetched")] = False,
    as_json: Json = False,
) -> None:
    """Fetch files of a dandiset, and check every byte.

    Each file gets its name when its digest is that of the archive. An interrupted download goes on with the same command.
    Beside each file a .dandi.json says what it is.
    """
    from rich.filesize import decimal

    from nwb_sbtt.io.dandi.address import narrow, parse_address
    from nwb_sbtt.io.dandi.assets import find_assets
    from nwb_sbtt.io.dandi.downloads import fetch_selection

    meant = narrow(parse_address(address, instance=instance), version=version, path=asset, glob=glob)
    found = find_assets(meant)
    typer.echo(f"{found}: {_files(len(found.assets))}, {decimal(found.size)}", err=as_json)
    paths = [] if dry_run else fetch_selection(found, to, existing=existing.value, jobs=jobs)
    if as_json:
        about = {"dandiset": found.dandiset, "version": found.version, "files": len(found.assets), "bytes": found.size}
        _print_json({**about, "assets": [each.path for each in found.assets], "paths": [str(path) for path in paths]})
        return
    for each in found.assets if dry_run else ():
        typer.echo(f"  {decimal(each.size):>10}  {each.path}")
    for path in paths:
        typer.echo(str(path))


def validate(
    file: Annotated[str, typer.Argument(help="NWB file, or its address on DANDI", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check a file as DANDI would, and say for each finding what to do.

    By pynwb's validator and by nwbinspector. The exit code is 1 where DANDI would refuse the file.
    """
    from nwb_sbtt.io.write.validation import validate as validate_file

    findings = validate_file(file)
    refused = any(each.blocks for each in findings)
    if as_json:
        _print_json({"refused": refused, "findings": [each.as_dict() for each in findings]})
    else:
        for each in findings:
            typer.echo(f"{each.level}  {each.location}: {each.message}\n    {each.check}; to do: {each.hint}")
        verdict = "DANDI would refuse it" if refused else "DANDI would take it"
        typer.echo(f"{file}: {len(findings) or 'no'} finding{'s' if len(findings) != 1 else ''}; {verdict}")
    if refused:
        raise typer.Exit(1)


def upload(
    result: Annotated[Path, typer.Argument(help="result file, as fit --out and infer write it", show_default=False)],
    dandiset: Annotated[str, typer.Option(help="dandiset whose draft it goes into", show_default=False)],
    instance: Where = None,
    existing: Annotated[Existing, typer.Option(help="where the draft has another file of that name")] = Existing.error,
    into_source: Annotated[bool, typer.Option("--into-source", help="even into the recording's own dandiset")] = False,
    validation: Annotated[
        Validation, typer.Option(help="ignore: upload what DANDI's checks refuse")
    ] = Validation.require,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: Json = False,
) -> None:
    """Put a result into a dandiset, under DANDI's name for it.

    It is validated first, and linked to the dandiset that the recording came from. The key comes from the environment or
    the keyring, as the dandi program's does.
    """
    from nwb_sbtt.io.dandi.uploads import upload as upload_file

    if not yes and not sys.stdin.isatty():
        raise ConfigError("nobody is there to be asked; pass --yes to write into the dandiset without a question")
    confirm = None if yes else lambda text: typer.confirm(text, err=True)
    asset = upload_file(
        result,
        dandiset,
        instance=instance,
        existing=existing.value,
        into_source=into_source,
        validation=validation.value,
        confirm=confirm,
    )
    if as_json:
        _print_json(
            {"dandiset": asset.dandiset, "version": asset.version, "path": asset.path, "asset_id": asset.asset_id}
        )
    else:
        typer.echo(f"{asset} (asset {asset.asset_id})")


def cache(
    action: Annotated[str, typer.Argument(help="list or clear", show_default=False)], as_json: Json = False
) -> None:
    """List or clear what was fetched to be read.

    NWB_SBTT_CACHE_DIR and NWB_SBTT_CACHE_LIMIT in the environment say where it lies and how large it may be.
    """
    from rich.filesize import decimal

    from nwb_sbtt.io.dandi.cache import cache_folder, cache_limit, clear_cache, list_cache

    if action not in ("list", "clear"):
        raise ConfigError(f"cannot {action!r} the cache; expected list or clear")
    if action == "clear":
        freed = clear_cache()
        if as_json:
            _print_json({"freed": freed})
        else:
            typer.echo(f"{decimal(freed)} freed")
        return
    kept = list_cache()
    total = sum(each.size for each in kept)
    if as_json:
        rows = [
            {"address": each.address, "bytes": each.size, "used": each.used.isoformat(), "path": str(each.path)}
            for each in kept
        ]
        _print_json({"folder": str(cache_folder()), "limit": cache_limit(), "bytes": total, "files": rows})
        return
    for each in kept:
        typer.echo(f"{decimal(each.size):>10}  last used {each.used:%Y-%m-%d %H:%M}  {each.address}")
    typer.echo(f"{cache_folder()}: {_files(len(kept))}, {decimal(total)} of {decimal(cache_limit())}")


VERBS = (download, validate, upload, cache)


def _files(n: int) -> str:
    return f"{n} file{'s' if n != 1 else ''}"


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=2, allow_nan=False))
