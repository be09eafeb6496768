"""Bridges from a stream to LSL and ezmsg, with these packages, on this machine."""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import xarray as xr

import nwb_sbtt as sb
from nwb_sbtt.data.schema import make_dataset
from nwb_sbtt.errors import DataError
from tests.support.processes import script

pytest.importorskip("hatchling", reason="the package of bridges is built by hatchling (extra `test`)")
PACKAGE = Path(__file__).parents[1] / "extensions" / "streaming-bridges"
WIDTH, CHANNELS, LAG = 0.02, 5, 2
LOOPBACK = f"""[ports]
IPv6 = disable
[multicast]
AddressesOverride = {{127.0.0.1}}
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {uuid4()}
"""
"""Settings of LSL: streams of these tests alone, found by asking this machine, without multicast."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The package of bridges, installed by pip into a folder of its own that this process then imports from."""
    folder = tmp_path_factory.mktemp("installed")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", folder]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, PACKAGE], check=True)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "nwb_sbtt_bridges"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def bins(installed):
    from nwb_sbtt_bridges import bins

    return bins


@pytest.fixture(scope="module")
def lsl(installed):
    pylsl = pytest.importorskip("pylsl")
    pylsl.set_config_content(LOOPBACK)  # Before anything else of LSL is used.
    from nwb_sbtt_bridges import lsl

    return lsl


def dataset(*, inputs=False):
    rng = np.random.default_rng(0)
    course = np.sin(np.arange(40)[:, None] / 5 + np.arange(CHANNELS))
    values = rng.poisson(0.6 + 0.5 * course, (12, 40, CHANNELS))
    ds = make_dataset(
        values,
        np.ones(values.shape, bool),
        bin_width=WIDTH,
        kind="units",
        channel_id=np.arange(CHANNELS) + 10,
        attrs={"unit": "counts"},
    )
    return sb.with_inputs(ds, {"light": rng.normal(size=(12, 40))}) if inputs else ds


def fit(ds, folder):
    model = sb.config.ConvConfig(lag=LAG, width=16, groups=4, layers=3, factors=3, read_in=8, max_lag=20)
    return sb.fit(ds, sb.FitConfig(model=model, train=sb.config.TrainConfig(epochs=1)), run_dir=folder)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return fit(dataset(), tmp_path_factory.mktemp("bridges") / "run")


def decoder(fitted, ds):
    """A decoder of two columns."""
    hand = np.random.default_rng(5).normal(size=(12, 40, 2))
    behaviour = xr.DataArray(hand, dims=("trial", "time", "column"), coords={"column": ["x", "y"]})
    return sb.decode(fitted.infer(ds), behaviour)


def recording(n=30, seed=1):
    """Counts (bin, channel) of which a third is missing."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((n, CHANNELS)) < 1 / 3, np.nan, rng.poisson(1.0, (n, CHANNELS))).astype(np.float32)


def expected(fitted, counts, *, inputs=None, exposure=None, decoded=None):
    """What a stream infers of all bins, by name."""
    stream = fitted.stream()
    stream.decode(decoded)
    steps = [stream.step(counts, exposure=exposure, inputs=inputs), stream.finish()]
    due = np.concatenate([step.bin for step in steps]) >= 0
    names = ("rates", "rates_sd", "factors", *(() if decoded is None else ("decoded",)))
    return {name: np.concatenate([getattr(step, name) for step in steps])[due] for name in names}


def check(estimates, of, times):
    np.testing.assert_allclose([each.time for each in estimates], times, rtol=0, atol=1e-6)
    for name, arrays in of.items():
        np.testing.assert_array_equal([getattr(each.step, name) for each in estimates], arrays[: len(times)], name)


def test_samples_at_the_rate_of_bins_are_bins(bins, fitted):
    counts, times = recording(), 100 + WIDTH * np.arange(30)
    one = bins.Bins(fitted.stream(), 50)
    found = [each for t, row in zip(times, counts, strict=True) for each in one.add([t], row)]
    assert len(found) == 30 - LAG
    check(found + one.restart(), expected(fitted, counts), times)
    assert one.tally == bins.Tally(bins=30, restarts=1)


def test_a_bin_of_several_samples_has_their_sum_and_the_share_that_was_observed(bins, fitted):
    parts = recording(120).reshape(30, 4, CHANNELS)
    one = bins.Bins(fitted.stream(), 200)
    found = one.add(5 + np.arange(120) / 200, parts.reshape(120, CHANNELS)) + one.restart()
    shown = ~np.isnan(parts)
    counts = np.where(shown.any(1), np.nansum(parts, 1), np.nan)
    exposure = np.where(shown.any(1), shown.mean(1), 1)
    check(found, expected(fitted, counts, exposure=exposure), 5 + 1.5 / 200 + WIDTH * np.arange(30))


@pytest.mark.parametrize("per_bin", [1, 2])
def test_lost_samples_are_missing_and_leave_no_gap(bins, fitted, per_bin):
    parts = recording(30 * per_bin)
    kept = np.ones(len(parts), bool)
    kept[[4 * per_bin, *range(10 * per_bin, 13 * per_bin)]] = False
    times = np.arange(len(parts)) * WIDTH / per_bin
    one = bins.Bins(fitted.stream(), per_bin / WIDTH)
    with_gaps = one.add(times[kept], parts[kept]) + one.restart()
    another = bins.Bins(fitted.stream(), per_bin / WIDTH)
    marked = another.add(times, np.where(kept[:, None], parts, np.nan)) + another.restart()
    assert len(with_gaps) == 30
    arrays = {name: [getattr(each.step, name) for each in marked] for name in ("rates", "rates_sd", "factors")}
    check(with_gaps, arrays, [each.time for each in marked])
    assert one.tally.lost == (~kept).sum() and another.tally.lost == 0


@pytest.mark.parametrize(("drift", "jitter"), [(0.001, 0.3), (0.01, 0.2), (-0.01, 0.2)])
def test_a_clock_that_jitters_and_drifts_loses_nothing(bins, fitted, drift, jitter):
    rng = np.random.default_rng(2)
    true = np.arange(600) * WIDTH * (1 + drift)
    one = bins.Bins(fitted.stream(), 50)
    found = one.add(true + rng.uniform(-jitter, jitter, 600) * WIDTH, recording(600)) + one.restart()
    assert one.tally == bins.Tally(bins=600, restarts=1)
    assert np.abs([each.time for each in found] - true)[100:].max() < 0.35 * WIDTH


def test_after_a_long_gap_the_stream_begins_again(bins, fitted):
    counts = recording(24)
    times = np.concatenate([WIDTH * np.arange(12), 7 + WIDTH * np.arange(12)])
    one = bins.Bins(fitted.stream(), 50, longest_gap=5)
    found = one.add(times, counts) + one.restart()
    first, second = expected(fitted, counts[:12]), expected(fitted, counts[12:])
    check(found[:12], first, times[:12])
    check(found[12:], second, times[12:])
    assert one.tally == bins.Tally(bins=24, restarts=2)


def test_what_is_late_is_dropped_once_it_was_given_up(bins, fitted):
    counts, times = recording(8), WIDTH * np.arange(8)
    one = bins.Bins(fitted.stream(), 50)
    assert one.give_up(1e9) == []  # There is nothing to wait for before the first sample.
    found = one.add(times[:4], counts[:4]) + one.give_up(times[4] + 0.001)
    found += one.add(times[4:], counts[4:]) + one.restart()
    counts[4] = np.nan
    check(found, expected(fitted, counts), times)
    assert one.tally == bins.Tally(bins=8, lost=1, late=1, restarts=1)


@pytest.mark.parametrize("rate", [30, 75, 60])
def test_rates_that_do_not_suit_the_bins_are_refused(bins, fitted, rate):
    with pytest.raises(DataError, match="whole number, such as 1 \\(50 Hz\\)"):
        bins.Bins(fitted.stream(), rate)


def test_channels_are_found_by_their_names(bins):
    channels = ("units:3", "units:7")
    assert bins.channel_order(None, channels) == [0, 1]
    assert bins.channel_order(["7", "x", "3"], channels) == [2, 0]
    assert bins.channel_order(["7", "units:7", "units:3"], channels) == [2, 1]
    with pytest.raises(DataError, match="no channel 'units:7'; its labels are '3', '4'"):
        bins.channel_order(["3", "4"], channels)


def received(pylsl, name, n, *, patience=20.0):
    """An inlet, its description, and a function that waits for so many samples."""
    (info,) = pylsl.resolve_byprop("name", name, timeout=patience)
    inlet = pylsl.StreamInlet(info)
    inlet.open_stream(timeout=patience)

    def samples():
        end, parts = time.monotonic() + patience, []
        while sum(len(times) for _, times in parts) < n and time.monotonic() < end:
            parts.append(inlet.pull_chunk(timeout=0.2, min_samples=1, as_numpy=True))
        return np.concatenate([values for values, _ in parts]), np.concatenate([times for _, times in parts])

    return inlet.info(timeout=patience), samples


def outlet(pylsl, name, labels, *, rate=1 / WIDTH):
    info = pylsl.StreamInfo(name, "Counts", len(labels), rate, "float32", f"source of {name}")
    info.set_channel_labels(labels)
    made = pylsl.StreamOutlet(info)
    (found,) = pylsl.resolve_byprop("name", name, timeout=20)
    return made, found


class Running:
    """A bridge that runs in a thread until the end of a block."""

    def __init__(self, bridge):
        self.ended = threading.Event()
        self.thread = threading.Thread(target=bridge.run, args=(self.ended.is_set,))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def test_lsl_streams_carry_what_the_stream_infers(lsl, fitted):
    pylsl = pytest.importorskip("pylsl")
    counts = recording()
    labels = [str(i) for i in range(10, 10 + CHANNELS)][::-1]
    source, found = outlet(pylsl, "a recording", labels)
    bridge = lsl.Bridge(fitted.stream(), found, send=("rates", "rates_sd", "factors"), name="a test")
    got = {name: received(pylsl, f"a test-{name}", len(counts)) for name in ("rates", "rates_sd", "factors")}
    about = got["rates"][0]
    assert about.get_channel_labels() == ["10", "11", "12", "13", "14"] and set(about.get_channel_units()) == {"Hz"}
    assert about.nominal_srate() == pytest.approx(50)
    assert about.desc().child("inference").child_value("lag_bins") == str(LAG)
    assert got["factors"][0].get_channel_labels() == ["factor 0", "factor 1", "factor 2"]
    assert source.wait_for_consumers(20)
    began = pylsl.local_clock() - 1
    with Running(bridge):
        for i, row in enumerate(counts):
            source.push_sample(row[::-1], began + WIDTH * i)
        while bridge.tally.bins < len(counts):
            time.sleep(0.01)
    for name, arrays in expected(fitted, counts).items():
        values, times = got[name][1]()
        np.testing.assert_array_equal(values, arrays, err_msg=name)
        np.testing.assert_allclose(times, began + WIDTH * np.arange(len(counts)), rtol=0, atol=WIDTH / 4)


def test_lsl_carries_decoded_behaviour(lsl, fitted):
    pylsl = pytest.importorskip("pylsl")
    counts, decoded = recording(12), decoder(fitted, dataset())
    stream = fitted.stream()
    stream.decode(decoded)
    source, found = outlet(pylsl, "a decoded recording", [*map(str, range(10, 10 + CHANNELS))])
    bridge = lsl.Bridge(stream, found, send=["decoded"], name="hand")
    about, samples = received(pylsl, "hand-decoded", len(counts))
    assert about.get_channel_labels() == list(stream.columns) and about.type() == "Behavior"
    assert source.wait_for_consumers(20)
    for i, row in enumerate(counts):
        source.push_sample(row, 100 + WIDTH * i)
    while bridge.tally.bins < len(counts):
        bridge.pull()
    bridge.restart()
    np.testing.assert_array_equal(samples()[0], expected(fitted, counts, decoded=decoded)["decoded"])


def test_lsl_carries_known_inputs_beside_the_channels(lsl, tmp_path):
    pylsl = pytest.importorskip("pylsl")
    fitted = fit(dataset(inputs=True), tmp_path / "run")
    counts, light = recording(12), np.random.default_rng(3).normal(size=(12, 1)).astype(np.float32)
    source, found = outlet(pylsl, "a driven recording", [*map(str, range(10, 10 + CHANNELS)), "light"])
    bridge = lsl.Bridge(fitted.stream(), found, send=["factors"], name="driven")
    _, samples = received(pylsl, "driven-factors", len(counts))
    assert source.wait_for_consumers(20)
    for i, row in enumerate(np.hstack([counts, light])):
        source.push_sample(row, 100 + WIDTH * i)
    while bridge.tally.bins < len(counts):
        bridge.pull()
    bridge.restart()
    np.testing.assert_array_equal(samples()[0], expected(fitted, counts, inputs=light)["factors"])


def test_a_bin_that_lsl_does_not_deliver_is_inferred_without_it(lsl, fitted):
    pylsl = pytest.importorskip("pylsl")
    counts = recording(4)
    source, found = outlet(pylsl, "a stalled recording", [str(i) for i in range(10, 10 + CHANNELS)])
    bridge = lsl.Bridge(fitted.stream(), found, name="patient", send=["factors"], patience=0.1)
    assert source.wait_for_consumers(20)
    now = pylsl.local_clock()
    for i, row in enumerate(counts):
        source.push_sample(row, now + WIDTH * i)
    while bridge.tally.bins < 8:
        bridge.pull()
    assert bridge.tally.lost >= 4 and pylsl.local_clock() > now + 7 * WIDTH + 0.1


def test_lsl_streams_that_do_not_suit_the_fit_are_refused(lsl, fitted):
    pylsl = pytest.importorskip("pylsl")
    made = {
        "a stream with other labels": (list("abcde"), 50, "has no channel '10'"),
        "a stream of events": ([str(i) for i in range(10, 15)], 0, "has no regular rate"),
        "a stream of other bins": ([str(i) for i in range(10, 15)], 30, "whole number"),
    }
    for name, (labels, rate, message) in made.items():
        kept, found = outlet(pylsl, name, labels, rate=rate)
        with pytest.raises(DataError, match=message):
            lsl.Bridge(fitted.stream(), found, name="refused")
        del kept
    kept, found = outlet(pylsl, "a stream of counts", [str(i) for i in range(10, 15)])
    with pytest.raises(DataError, match="no 'mean' to send; expected some of factors, rates, rates_sd"):
        lsl.Bridge(fitted.stream(), found, name="refused", send=["mean"])
    unlabelled = pylsl.StreamOutlet(pylsl.StreamInfo("two channels", "Counts", 2, 50, "float32", "two"))
    (found,) = pylsl.resolve_byprop("name", "two channels", timeout=20)
    with pytest.raises(DataError, match="have 2 values; expected 5: the 5 channels of the fit"):
        lsl.Bridge(fitted.stream(), found, name="refused")
    del kept, unlabelled


def in_a_process(installed, folder, code, **environment):
    page = folder / "page.py"
    page.write_text(f"import sys\nsys.path.insert(0, {str(installed)!r})\n{code}")
    ended = script(page, cwd=folder, environment=environment)
    assert ended.code == 0, ended.out + ended.err
    return ended


def example(word):
    """The example of the package's README that has a word."""
    blocks = (PACKAGE / "README.md").read_text().split("```python\n")[1:]
    (code,) = [block.partition("```")[0] for block in blocks if word in block]
    return code


@pytest.fixture
def graph():
    """Where processes of ezmsg find the server of their graph, which no other program uses."""
    ez = pytest.importorskip("ezmsg.core")
    server = ez.GraphServer()
    server.start(("127.0.0.1", 0))
    host, port = server.address
    yield {"EZMSG_GRAPHSERVER_ADDR": f"{host}:{port}"}
    server.stop()


EZMSG = """
import pickle
from pathlib import Path

import ezmsg.core as ez
import numpy as np
from ezmsg.util.messages.axisarray import AxisArray, CoordinateAxis, LinearAxis

from nwb_sbtt_bridges.ezmsg import Inference, InferenceSettings

given = np.load("given.npz")
WIDTH, ENDS = 0.02, (3, 4, 9, 16, 24, 30)
NAMES = ("rates", "rates_sd", "factors", "decoded")


class Rig(ez.Unit):
    OUTPUT = ez.OutputStream(AxisArray)

    @ez.publisher(OUTPUT)
    async def play(self):
        for first, last in zip((0, *ENDS), ENDS):
            part = slice(first, last)
            if first == 4:
                continue  # A message is lost.
            yield self.OUTPUT, AxisArray(
                given["counts"][part, ::-1].T,
                dims=["ch", "time"],
                axes={
                    "time": LinearAxis(unit="s", gain=WIDTH, offset=50 + first * WIDTH),
                    "ch": CoordinateAxis(np.array(["14", "13", "12", "11", "10"]), dims=["ch"]),
                },
                attrs={
                    "observed": given["observed"][part, ::-1].T,
                    "inputs": given["inputs"][part],
                    "restart": first == 16,
                },
            )
        end = LinearAxis(unit="s", gain=WIDTH, offset=100)
        yield self.OUTPUT, AxisArray(np.empty((0, 5)), dims=["time", "ch"], axes={"time": end}, attrs={"restart": True})


class Kept(ez.State):
    messages: list


class Keep(ez.Unit):
    STATE = Kept
    INPUT = ez.InputStream(AxisArray)

    def initialize(self):
        self.STATE.messages = []

    @ez.subscriber(INPUT)
    async def keep(self, message):
        self.STATE.messages.append(message)
        if sum(len(each.data) for each in self.STATE.messages) == 30 * len(NAMES):
            found = {}
            for name in NAMES:
                own = [each for each in self.STATE.messages if each.key == name]
                found[name] = np.concatenate([each.data for each in own])
                found[f"{name} labels"] = own[0].axes["ch"].data
                found[f"{name} times"] = np.concatenate(
                    [each.axes["time"].value(np.arange(len(each.data))) for each in own]
                )
            np.savez("found.npz", **found)
            raise ez.NormalTermination


decoded = pickle.loads(Path("decoded").read_bytes())
rig, inference, keep = Rig(), Inference(InferenceSettings(run_dir="run", decoded=decoded)), Keep()
outputs = (inference.OUTPUT_RATES, inference.OUTPUT_SD, inference.OUTPUT_FACTORS, inference.OUTPUT_DECODED)
ez.run(
    RIG=rig,
    INFERENCE=inference,
    KEEP=keep,
    connections=[(rig.OUTPUT, inference.INPUT_SIGNAL), *((output, keep.INPUT) for output in outputs)],
)
"""


@pytest.mark.slow
def test_a_unit_of_ezmsg_publishes_what_the_stream_infers(installed, graph, tmp_path):
    rng = np.random.default_rng(4)
    ds = dataset(inputs=True)
    fitted = fit(ds, tmp_path / "run")
    decoded = decoder(fitted, ds)
    (tmp_path / "decoded").write_bytes(pickle.dumps(decoded))
    counts, observed = rng.poisson(1.0, (30, CHANNELS)).astype(np.float32), rng.random((30, CHANNELS)) < 0.6
    inputs = rng.normal(size=(30, 1)).astype(np.float32)
    np.savez(tmp_path / "given.npz", counts=counts, observed=observed, inputs=inputs)
    in_a_process(installed, tmp_path, EZMSG, **graph)
    counts[~observed] = np.nan
    counts[4:9], inputs[4:9] = np.nan, np.nan
    trials = slice(0, 16), slice(16, 30)
    parts = [expected(fitted, counts[part], inputs=inputs[part], decoded=decoded) for part in trials]
    found = np.load(tmp_path / "found.npz")
    for name in ("rates", "rates_sd", "factors", "decoded"):
        np.testing.assert_array_equal(found[name], np.concatenate([part[name] for part in parts]), err_msg=name)
        np.testing.assert_allclose(found[f"{name} times"], 50 + WIDTH * np.arange(30), rtol=0, atol=1e-6)
    assert found["rates labels"].tolist() == ["10", "11", "12", "13", "14"]
    assert found["factors labels"].tolist() == ["factor 0", "factor 1", "factor 2"]
    assert found["decoded labels"].tolist() == ["x", "y"]


@pytest.mark.slow
def test_the_example_of_ezmsg_runs(installed, graph, tmp_path):
    ended = in_a_process(installed, tmp_path, example("import ezmsg"), **graph)
    assert "bin at 0.00 s: [" in ended.out


@pytest.mark.slow
def test_the_example_of_lsl_runs(installed, tmp_path):
    pytest.importorskip("pylsl")
    (tmp_path / "lsl.cfg").write_text(LOOPBACK)
    ended = in_a_process(installed, tmp_path, example("import pylsl"), LSLAPICFG=str(tmp_path / "lsl.cfg"))
    assert ended.out.count("s after the bin: [") == 20
    assert "lost=0, late=0" in ended.out


@pytest.mark.slow
def test_the_command_sends_estimates_until_it_is_ended(lsl, installed, fitted, tmp_path):
    pylsl = pytest.importorskip("pylsl")
    counts = recording(10)
    (tmp_path / "lsl.cfg").write_text(LOOPBACK)
    path = os.pathsep.join([str(installed), str(PACKAGE.parents[1]), os.environ.get("PYTHONPATH", "")])
    words = [fitted.run_dir, "a rig", "--send", "factors", "--name", "command"]
    source, _ = outlet(pylsl, "a rig", [str(i) for i in range(10, 10 + CHANNELS)])
    with subprocess.Popen(
        [sys.executable, "-c", "from nwb_sbtt_bridges.command import main; main()", *words],
        env=os.environ | {"LSLAPICFG": str(tmp_path / "lsl.cfg"), "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores the signal, and hands that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as command:
        try:
            _, samples = received(pylsl, "command-factors", 10 - LAG, patience=100)
            assert source.wait_for_consumers(20)
            for i, row in enumerate(counts):
                source.push_sample(row, 100 + WIDTH * i)
            values, _ = samples()
            command.send_signal(signal.SIGINT)
            out, _ = command.communicate(timeout=60)
        finally:
            command.kill()
    np.testing.assert_array_equal(values, expected(fitted, counts)["factors"][: 10 - LAG])
    assert "sending command-factors; end with Ctrl-C" in out
    assert "10 bins; 0 samples lost, 0 late" in out


def test_the_command_names_a_stream_that_is_not_there(lsl, fitted, monkeypatch, capsys):
    from nwb_sbtt_bridges.command import main

    monkeypatch.setattr(sys, "argv", ["nwb-sbtt-lsl", str(fitted.run_dir), "no stream", "--wait", "0.1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "no LSL stream is called 'no stream' after 0.1 s; start its outlet" in capsys.readouterr().err
