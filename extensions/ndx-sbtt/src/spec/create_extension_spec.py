"""Write the extension's specification to ``spec/``: the yaml files there are made by this script, never by hand.

Run it without arguments from anywhere, or with a folder as its one argument to write elsewhere.

Rules for whoever changes this file: a new field is always optional, nothing is renamed and nothing becomes required, so
that every file that was ever written can still be read. No type may have two links whose targets share an ancestor: hdmf
reads a link that is absent as the target of the other one (seen in hdmf 6.2). What an estimate was inferred from is
therefore said by the model's `sources` table, which holds for units too.
"""

import sys
from pathlib import Path

from pynwb.spec import (
    NWBAttributeSpec,
    NWBDatasetSpec,
    NWBGroupSpec,
    NWBLinkSpec,
    NWBNamespaceBuilder,
    export_spec,
)

NAME = "ndx-sbtt"
VERSION = "0.2.0"


def inferred_signal_series() -> NWBGroupSpec:
    """What a model says about each channel, in the unit of the data."""
    return NWBGroupSpec(
        neurodata_type_def="InferredSignalSeries",
        neurodata_type_inc="TimeSeries",
        doc="A model's estimate of the noise-free signal of each channel (denoised fluorescence, field potential, band "
        "power), in the unit of the recorded signal. Each channel is a row of the table that 'channels' points at: "
        "units, electrodes, regions of interest, or any other table with one row per channel.",
        datasets=[
            NWBDatasetSpec(
                name="data",
                dtype="float32",
                dims=("num_times", "num_channels"),
                shape=(None, None),
                doc="Estimate at each time for each channel.",
                attributes=[
                    NWBAttributeSpec(
                        name="unit", dtype="text", doc="Unit of the estimate, which is the unit of the data."
                    )
                ],
            ),
            _channels(),
        ],
        links=[
            _link("model", "LatentVariableModel", "Model that made the estimate."),
            _link("posterior_sd", "TimeSeries", "Posterior standard deviation of 'data', of the same shape and unit."),
        ],
    )


def inferred_rate_series() -> NWBGroupSpec:
    """A model's firing or event rates."""
    return NWBGroupSpec(
        neurodata_type_def="InferredRateSeries",
        neurodata_type_inc="InferredSignalSeries",
        doc="A model's estimate of the rate of each channel's events, in events per second. Times the model's "
        "'bin_width' it is the expected count per bin.",
        datasets=[
            NWBDatasetSpec(
                name="data",
                dtype="float32",
                dims=("num_times", "num_channels"),
                shape=(None, None),
                doc="Rate at each time for each channel.",
                attributes=[
                    NWBAttributeSpec(name="unit", dtype="text", value="Hz", doc="Events per second: always 'Hz'.")
                ],
            )
        ],
    )


def latent_factor_series() -> NWBGroupSpec:
    """Latent trajectories."""
    return NWBGroupSpec(
        neurodata_type_def="LatentFactorSeries",
        neurodata_type_inc="TimeSeries",
        doc="Latent variables of a model over time. Their sign, order and scale mean something only together with the "
        "model that made them.",
        attributes=[
            NWBAttributeSpec(
                name="kind",
                dtype="text",
                doc="Which latent variables these are: 'factors' (what the rates are read out from), "
                "'generator_states' (state of the dynamical system), 'inferred_inputs' (input that the controller "
                "gives to the dynamical system), or 'other', which the description explains.",
            )
        ],
        datasets=[
            NWBDatasetSpec(
                name="data",
                dtype="float32",
                dims=("num_times", "num_factors"),
                shape=(None, None),
                doc="Posterior mean at each time of each latent variable.",
                attributes=[NWBAttributeSpec(name="unit", dtype="text", doc="'a.u.' unless the model gives a unit.")],
            )
        ],
        links=[
            _link("model", "LatentVariableModel", "Model that made the estimate."),
            _link("posterior_sd", "TimeSeries", "Posterior standard deviation of 'data', of the same shape and unit."),
        ],
    )


def observation_mask_series() -> NWBGroupSpec:
    """Where a measurement existed."""
    return NWBGroupSpec(
        neurodata_type_def="ObservationMaskSeries",
        neurodata_type_inc="TimeSeries",
        doc="Where a measurement exists: 1 where the channel was measured at that time, 0 where it was not. Values of "
        "any series at entries that are 0 say nothing about the recording.",
        datasets=[
            NWBDatasetSpec(
                name="data",
                dtype="uint8",
                dims=("num_times", "num_channels"),
                shape=(None, None),
                doc="1 where a measurement exists, 0 where none does.",
                attributes=[NWBAttributeSpec(name="unit", dtype="text", doc="'n/a': a mask has no unit.")],
            ),
            _channels(),
        ],
        links=[_link("source_timeseries", "TimeSeries", "Recorded series that the mask speaks about.")],
    )


def latent_variable_model() -> NWBGroupSpec:
    """How the estimates came about."""
    return NWBGroupSpec(
        neurodata_type_def="LatentVariableModel",
        neurodata_type_inc="NWBDataInterface",
        doc="Record of the model behind a set of estimates: what it is, what it was fitted to, with which settings and "
        "software, and how the fit went.",
        attributes=[
            _attribute("model_type", "text", "Kind of model, e.g. 'lfads'.", required=True),
            _attribute("software_name", "text", "Software that fitted the model.", required=True),
            _attribute("software_version", "text", "Version of that software.", required=True),
            _attribute("bin_width", "float64", "Width of the model's time bins in seconds.", required=True),
            _attribute(
                "bin_reference",
                "text",
                "Which moment of its bin each timestamp names: 'start' or 'center'.",
                required=True,
            ),
            _attribute("run_name", "text", "Name of the fit."),
            _attribute("random_seed", "int", "Seed that all randomness of the fit follows from."),
            _attribute("likelihood", "text", "Observation model, e.g. 'poisson' or 'gaussian'."),
            _attribute("checkpoint_sha256", "text", "SHA-256 digest of the stored weights."),
            _attribute("source_commit", "text", "Commit of the software's source code."),
        ],
        datasets=[
            _text("config", "Settings of the model and of its fit, as JSON.", required=True),
            _text("environment", "Versions of the software and the machine that the model was fitted with, as JSON."),
            _text("metrics", "How well the model does, as JSON: one value for each name."),
            _text("details", "Whatever else is known of the model, as JSON."),
            _text(
                "input_description",
                "How the data that the model saw were read from the sources and cut into bins and trials, as JSON.",
            ),
            NWBDatasetSpec(
                name="bin_times",
                dtype="float64",
                dims=("num_bins",),
                shape=(None,),
                quantity="?",
                doc="Centre of each bin of a segment in seconds, relative to the event that segments are aligned to.",
            ),
        ],
        groups=[
            NWBGroupSpec(
                name="training_metrics",
                neurodata_type_inc="DynamicTable",
                quantity="?",
                doc="How the fit went: one row per epoch, one column per quantity (epoch, train_loss, valid_loss, …).",
            ),
            NWBGroupSpec(
                name="sources",
                neurodata_type_inc="DynamicTable",
                quantity="?",
                doc="What the estimates were inferred from: one row per recorded series, with the file's name, object "
                "id, checksum and its DANDI ids where they are known.",
            ),
        ],
    )


def _channels() -> NWBDatasetSpec:
    return NWBDatasetSpec(
        name="channels",
        neurodata_type_inc="DynamicTableRegion",
        doc="Row of the table of units, electrodes, regions of interest or other channels that each column belongs to.",
    )


def _link(name: str, target: str, doc: str) -> NWBLinkSpec:
    return NWBLinkSpec(name=name, target_type=target, quantity="?", doc=doc)


def _attribute(name: str, dtype: str, doc: str, *, required: bool = False) -> NWBAttributeSpec:
    return NWBAttributeSpec(name=name, dtype=dtype, doc=doc, required=required)


def _text(name: str, doc: str, *, required: bool = False) -> NWBDatasetSpec:
    return NWBDatasetSpec(name=name, dtype="text", doc=doc, quantity=1 if required else "?")


def main(folder: Path) -> None:
    """Write both yaml files into the folder."""
    namespace = NWBNamespaceBuilder(
        name=NAME,
        version=VERSION,
        doc="Inferred rates, signals and latent factors of neural population models, with the mask of what was observed "
        "and the record of the model",
        author=["The nwb_sbtt developers"],
        contact=["The nwb_sbtt developers"],
    )
    namespace.include_namespace("core")
    types = [
        latent_variable_model(),
        inferred_signal_series(),
        inferred_rate_series(),
        latent_factor_series(),
        observation_mask_series(),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    export_spec(namespace, types, str(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2] / "spec")
