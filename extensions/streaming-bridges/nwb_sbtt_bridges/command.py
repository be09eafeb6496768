"""The command ``nwb-sbtt-lsl``: a fit between LSL streams."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pylsl
import typer

from nwb_sbtt import load
from nwb_sbtt.errors import DataError, SbttError
from nwb_sbtt_bridges.lsl import Bridge

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def lsl(
    run_dir: Annotated[Path, typer.Argument(help="run folder of a fit with a lag")],
    source: Annotated[str, typer.Argument(help="name of the LSL stream with the counts or signals of the recording")],
    send: Annotated[
        str, typer.Option(help="what to send: rates, rates_sd, mean, mean_sd, factors, with commas")
    ] = "rates,factors",
    name: Annotated[str, typer.Option(help="first part of the names of the streams that are sent")] = "nwb_sbtt",
    session: Annotated[str | None, typer.Option(help="session of the fit, if it has several")] = None,
    longest_gap: Annotated[
        float, typer.Option(min=0, help="seconds of lost samples after which to begin again")
    ] = 10.0,
    patience: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="seconds to wait for a sample before its bin is inferred without it [default: no limit]"
        ),
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="seconds to look for the source")] = 60.0,
) -> None:
    """Infer a recording that arrives by LSL, and send rates and factors by LSL, until Ctrl-C."""
    stream = load(run_dir).stream(session=session)
    found = pylsl.resolve_byprop("name", source, timeout=wait)
    if not found:
        raise DataError(f"no LSL stream is called {source!r} after {wait:g} s; start its outlet, or pass --wait")
    bridge = Bridge(stream, found[0], send=send.split(","), name=name, longest_gap=longest_gap, patience=patience)
    names = ", ".join(outlet.get_info().name() for outlet in bridge.outlets.values())
    typer.echo(f"sending {names}; end with Ctrl-C")
    try:
        bridge.run()
    except KeyboardInterrupt:
        tally = bridge.tally
        typer.echo(
            f"{tally.bins} bins; {tally.lost} samples lost, {tally.late} late; began again {tally.restarts} times"
        )


def main() -> None:
    """Run the command; an error of the input is one line."""
    try:
        app()
    except SbttError as error:
        typer.echo(f"nwb-sbtt-lsl: {error}", err=True)
        raise SystemExit(2) from None
