"""The commands for DANDI archives; `main` registers them."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nwb_sbtt.cli.output import print_json
from nwb_sbtt.errors import ConfigError

Instance = Annotated[
    str | None, typer.Option("--instance", help="name or URL of the archive [default: $DANDI_INSTANCE, dandi]")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]


class Existing(StrEnum):
    """What to do with a file that exists already."""

    error = "error"
    skip = "skip"
    refresh = "refresh"
    overwrite = "overwrite"


class Validation(StrEnum):
    """What to do with a file that DANDI would refuse."""

    require = "require"
    ignore = "ignore"


def download(
    address: Annotated[
        str, typer.Argument(help="000140, DANDI:000140/VERSION[/PATH], or a web or API address", show_default=False)
    ],
    to: Annotated[Path, typer.Option(help="folder; files are placed below it as 000140/sub-X/…")] = Path(),
    version: Annotated[
        str | None, typer.Option(help="version of the dandiset, or draft [default: the newest published version]")
    ] = None,
    glob: Annotated[str | None, typer.Option(help="only files whose path matches, e.g. '*train*.nwb'")] = None,
    asset: Annotated[str | None, typer.Option(metavar="PATH", help="one file, or the files of one folder")] = None,
    instance: Instance = None,
    existing: Annotated[
        Existing, typer.Option(help="what to do if a different file of that name exists; overwrite replaces any file")
    ] = Existing.error,
    jobs: Annotated[int, typer.Option(min=1, help="files downloaded at the same time")] = 4,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list what would be downloaded")] = False,
    as_json: Json = False,
) -> None:
    """Download files of a dandiset, and verify their checksums.

    A file gets its final name only after its checksum is verified. The same command resumes an interrupted download. The
    .dandi.json file beside each file records its dandiset, version and asset.
    """
    from rich.filesize import decimal

    from nwb_sbtt.io.dandi.address import narrow, parse_address
    from nwb_sbtt.io.dandi.assets import find_assets
    from nwb_sbtt.io.dandi.downloads import fetch_selection

    target = narrow(parse_address(address, instance=instance), version=version, path=asset, glob=glob)
    selection = find_assets(target)
    typer.echo(f"{selection}: {_files(len(selection.assets))}, {decimal(selection.size)}", err=as_json)
    paths = [] if dry_run else fetch_selection(selection, to, existing=existing.value, jobs=jobs)
    if as_json:
        content = {
            "dandiset": selection.dandiset,
            "version": selection.version,
            "files": len(selection.assets),
            "bytes": selection.size,
            "assets": [item.path for item in selection.assets],
            "paths": [str(path) for path in paths],
        }
        print_json(content)
        return
    for item in selection.assets if dry_run else ():
        typer.echo(f"  {decimal(item.size):>10}  {item.path}")
    for path in paths:
        typer.echo(str(path))


def validate(
    file: Annotated[str, typer.Argument(help="NWB file, or its address on DANDI", show_default=False)],
    as_json: Json = False,
) -> None:
    """Validate a file as DANDI does, with a hint for each finding.

    Uses pynwb's validator and nwbinspector. The exit code is 1 if DANDI would refuse the file.
    """
    from nwb_sbtt.io.write.validation import validate as validate_file

    findings = validate_file(file)
    refused = any(finding.blocks for finding in findings)
    if as_json:
        print_json({"refused": refused, "findings": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{finding.level}  {finding.location}: {finding.message}")
            typer.echo(f"    {finding.check}; to do: {finding.hint}")
        verdict = "DANDI would refuse it" if refused else "DANDI would accept it"
        typer.echo(f"{file}: {len(findings) or 'no'} finding{'s' if len(findings) != 1 else ''}; {verdict}")
    if refused:
        raise typer.Exit(1)


def upload(
    result: Annotated[Path, typer.Argument(help="result file, as written by fit --out and infer", show_default=False)],
    dandiset: Annotated[
        str, typer.Option(help="dandiset, e.g. 000140; the file is added to its draft version", show_default=False)
    ],
    instance: Instance = None,
    existing: Annotated[
        Existing, typer.Option(help="what to do if the draft has another file of that name")
    ] = Existing.error,
    into_source: Annotated[
        bool, typer.Option("--into-source", help="allow upload into the dandiset of the recording itself")
    ] = False,
    validation: Annotated[
        Validation, typer.Option(help="ignore: upload the file even if DANDI's checks refuse it")
    ] = Validation.require,
    yes: Annotated[bool, typer.Option("--yes", help="upload without asking")] = False,
    as_json: Json = False,
) -> None:
    """Upload a result to a dandiset.

    The file is validated, named by DANDI's convention, uploaded, and linked to the dandiset of the recording. The API key is
    read from the environment or the keyring, as by the dandi program.
    """
    from nwb_sbtt.io.dandi.uploads import upload as upload_file

    if not yes and not sys.stdin.isatty():
        raise ConfigError("not a terminal: pass --yes to upload without a question")
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
        print_json(
            {"dandiset": asset.dandiset, "version": asset.version, "path": asset.path, "asset_id": asset.asset_id}
        )
    else:
        typer.echo(f"{asset} (asset {asset.asset_id})")


def cache(
    action: Annotated[str, typer.Argument(help="list or clear", show_default=False)], as_json: Json = False
) -> None:
    """List or clear the cache of files that were read from DANDI.

    Its folder and its largest size are set by NWB_SBTT_CACHE_DIR and NWB_SBTT_CACHE_LIMIT in the environment.
    """
    from rich.filesize import decimal

    from nwb_sbtt.io.dandi.cache import cache_folder, cache_limit, clear_cache, list_cache

    if action not in ("list", "clear"):
        raise ConfigError(f"cannot {action!r} the cache; expected list or clear")
    if action == "clear":
        freed = clear_cache()
        if as_json:
            print_json({"freed": freed})
        else:
            typer.echo(f"{decimal(freed)} freed")
        return
    files = list_cache()
    total = sum(file.size for file in files)
    if as_json:
        rows = [
            {"address": file.address, "bytes": file.size, "used": file.used.isoformat(), "path": str(file.path)}
            for file in files
        ]
        print_json({"folder": str(cache_folder()), "limit": cache_limit(), "bytes": total, "files": rows})
        return
    for file in files:
        typer.echo(f"{decimal(file.size):>10}  last used {file.used:%Y-%m-%d %H:%M}  {file.address}")
    typer.echo(f"{cache_folder()}: {_files(len(files))}, {decimal(total)} of {decimal(cache_limit())}")


COMMANDS = (download, validate, upload, cache)


def _files(n: int) -> str:
    return f"{n} file{'s' if n != 1 else ''}"
