"""The README's picture: one trial as sampled by a device with ten converters, its inferred rates, and its true rates.

    python benchmarks/readme_picture.py docs/first_fit.png

Seed 0, the demo's data and settings.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import nwb_sbtt as sb
from nwb_sbtt.pipeline import DEMO_CONFIG, DEMO_READ


def main() -> None:
    """Simulate, fit, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = sb.simulate.write_task(Path(folder) / "lorenz.nwb", observed_per_bin=10)
        data = sb.simulate.read_truth(source, sb.read_nwb(source, DEMO_READ))
        fitted = sb.fit(data, DEMO_CONFIG, run_dir=Path(folder) / "run")
        rates_r2 = fitted.evaluate(data)["truth"]["rates_r2"]["model"]
        valid = data.isel(trial=np.flatnonzero(data["split"].values == "valid")[:20])
        draw(valid, fitted.infer(valid), rates_r2).savefig(arguments.picture, dpi=140)
    print(f"{arguments.picture}: R² to the true rates {rates_r2:.3f}")


def draw(data: xr.Dataset, latents: xr.Dataset, rates_r2: float) -> Figure:
    """Draw four panels: a trial of median modulation, and its neuron with the third largest modulation."""
    trial = int(data["true_rates"].values.std((1, 2)).argsort()[data.sizes["trial"] // 2])
    truth, inferred = data["true_rates"].values[trial].T, latents["rates"].values[trial].T
    order = truth.argmax(1).argsort()
    observed = np.where(data["observed"].values[trial].T, data["values"].values[trial].T, np.nan)
    extent = (0.0, float(data.attrs["bin_width"]) * data.sizes["time"], data.sizes["channel"], 0.0)
    figure = Figure(figsize=(11, 3.1), layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.15))
    top = float(np.quantile(truth, 0.99))
    panels = (("observed: 10 of 29 at a time", observed, "Greys", 3), ("inferred rates", inferred, "viridis", top))
    for axis, (title, image, colours, highest) in zip(
        axes, (*panels, ("true rates", truth, "viridis", top)), strict=False
    ):
        drawn = axis.imshow(
            image[order], aspect="auto", extent=extent, cmap=colours, vmin=0, vmax=highest, interpolation="none"
        )
        axis.set_facecolor("#c9d7e6")
        axis.set(title=title, xlabel="time [s]", yticks=[])
    axes[0].set_ylabel("neuron")
    figure.colorbar(drawn, ax=axes[2], label="Hz", shrink=0.9)
    time, channel = data["time"].values, int(truth.std(1).argsort()[-3])
    band = latents["rates_sd"].values[trial, :, channel]
    axes[3].fill_between(time, inferred[channel] - band, inferred[channel] + band, color="#0072B2", alpha=0.25, lw=0)
    axes[3].plot(time, inferred[channel], color="#0072B2", label="inferred ± posterior sd")
    axes[3].plot(time, truth[channel], color="black", lw=1, ls="--", label="truth")
    observed = data["observed"].values[trial, :, channel]
    axes[3].plot(
        time[observed],
        np.full(observed.sum(), -0.06 * truth[channel].max()),
        "|",
        color="#D55E00",
        label="bins observed",
    )
    axes[3].set(title=f"one neuron (all: R² = {rates_r2:.2f})", xlabel="time [s]", ylabel="rate [Hz]")
    axes[3].set_ylim(top=1.5 * max(truth[channel].max(), (inferred[channel] + band).max()))
    axes[3].legend(frameon=False, fontsize=8, loc="upper left")
    axes[3].spines[["top", "right"]].set_visible(False)
    return figure


if __name__ == "__main__":
    main()
