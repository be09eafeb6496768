"""Sets in the shape of the benchmark's files, written from the command line."""

from typer.testing import CliRunner

from nwb_sbtt.cli.main import app
from nwb_sbtt.io.benchmark.recordings import read_task_recording
from nwb_sbtt.simulate.latents_benchmark import SetSettings, simulate_set


def test_the_command_line_writes_both_recordings_of_a_set(tmp_path):
    sizes = ["--train", "4", "--val", "2", "--test", "2", "--units", "8", "--seed", "1"]
    result = CliRunner().invoke(app, ["nlb", "simulate", "mc_rtt", str(tmp_path), *sizes])
    assert result.exit_code == 0, (result.output, result.exception)
    simulated = simulate_set(SetSettings("mc_rtt", train=4, val=2, test=2, units=8, seed=1))
    names = [f"sub-simulated_ses-mc-rtt_desc-{kind}_ecephys.nwb" for kind in ("train", "test")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for name, recorded in zip(names, (simulated.training, simulated.testing), strict=True):
        assert read_task_recording(tmp_path / name).unit_id.tolist() == recorded.unit_id.tolist()
