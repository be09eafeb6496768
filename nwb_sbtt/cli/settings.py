"""The verbs of the command line that list settings, models and likelihoods; `main` registers them."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def settings(
    model: Annotated[str | None, typer.Option(help="of the models only this one [default: all]")] = None,
    likelihood: Annotated[str | None, typer.Option(help="of the likelihoods only this one [default: all]")] = None,
    search: Annotated[str | None, typer.Option(help="only settings with this text in name or description")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False,
) -> None:
    """List every setting that --set and --config take.

    Name, values with range and unit, default, and what the setting does. A default of null means that the value is chosen
    when the fit starts, as the description says.
    """
    from nwb_sbtt.config.listing import list_settings
    from nwb_sbtt.report.listing import table_of_settings

    rows = list_settings(model=model, likelihood=likelihood, search=search)
    typer.echo(json.dumps([row.as_dict() for row in rows], indent=2) if as_json else table_of_settings(rows))


def models(as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False) -> None:
    """List models and likelihoods, those of other packages too.

    What --model and --likelihood take, and the package that each comes from.
    """
    from nwb_sbtt.config.listing import list_parts
    from nwb_sbtt.report.listing import table_of_parts

    parts = list_parts()
    typer.echo(json.dumps([part.as_dict() for part in parts], indent=2) if as_json else table_of_parts(parts))


VERBS = (settings, models)
