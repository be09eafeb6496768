"""The commands that list settings, and what other packages can add; `main` registers them."""

from __future__ import annotations

from typing import Annotated

import typer

from nwb_sbtt.cli.output import print_json


def settings(
    model: Annotated[str | None, typer.Option(help="settings of this model only [default: all models]")] = None,
    likelihood: Annotated[
        str | None, typer.Option(help="settings of this likelihood only [default: all likelihoods]")
    ] = None,
    search: Annotated[
        str | None, typer.Option(help="only settings with this text in their name or description")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False,
) -> None:
    """List all settings for --set and --config.

    For each setting: name, values with range and unit, default, and description. A default of null depends on the data and is
    resolved when the fit starts; the description states how.
    """
    from nwb_sbtt.config.listing import list_settings
    from nwb_sbtt.report.listing import table_of_settings

    rows = list_settings(model=model, likelihood=likelihood, search=search)
    if as_json:
        print_json([row.as_dict() for row in rows])
    else:
        typer.echo(table_of_settings(rows))


def models(as_json: Annotated[bool, typer.Option("--json", help="print JSON for programs")] = False) -> None:
    """List models, likelihoods, baselines and readers.

    The list has the names for --model and --likelihood, the baselines of every fit, and the neurodata types that can be read,
    each with its package. Those of other installed packages are included.
    """
    from nwb_sbtt.config.listing import list_functions, list_parts
    from nwb_sbtt.evaluate.baselines import BASELINES
    from nwb_sbtt.io.read.neurodata import READERS
    from nwb_sbtt.report.listing import table_of_parts

    parts = [*list_parts(), *list_functions("baseline", BASELINES), *list_functions("reader", READERS)]
    if as_json:
        print_json([part.as_dict() for part in parts])
    else:
        typer.echo(table_of_parts(parts))


COMMANDS = (settings, models)
