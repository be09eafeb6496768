"""What a type checker tells a package that uses this one: types of the public interface, and its own mistakes."""

import importlib.util
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import nwb_sbtt as sb

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is missing; install the extra dev"),
]

ROOT = Path(__file__).parents[1]
SCRIPT = """
from pathlib import Path
from typing import reveal_type

import nwb_sbtt as sb
from nwb_sbtt.plot import mask

trials = sb.Trials(event="go_cue_time", start=-0.5, stop=1.0)
maze = sb.read_nwb("recording.nwb", bin_width=0.01, trials=trials)
reveal_type(maze)  # Dataset
fitted = sb.fit(maze, sb.FitConfig(seeds=3, model=sb.config.LFADSConfig()), run_dir=Path("runs"))
reveal_type(fitted)  # Fitted
reveal_type(sb.load("runs"))  # Fitted
reveal_type(fitted.infer(maze))  # Dataset
reveal_type(sb.interval(fitted.infer(maze), level=0.95)[0])  # DataArray
reveal_type(sb.simulate.lorenz(n_channels=3))  # Dataset
reveal_type(sb.config.TrainConfig().epochs)  # int | None
reveal_type(sb.data.limit_bandwidth(maze, sb.config.BandwidthConfig(k=10)))  # Dataset
reveal_type(sb.read_result("latents.nwb"))  # Dataset
reveal_type(mask(maze))  # Axes

sb.fitt(maze)  # error: Module has no attribute "fitt"
sb.nlb.prepar("mc_maze")  # error: Module has no attribute "prepar"
sb.fit(maze, runs="runs")  # error: Unexpected keyword argument "runs"
sb.Trials(event=3)  # error: Argument "event" to "Trials" has incompatible type "int"
fitted.predict(maze)  # error: "Fitted" has no attribute "predict"
"""


def names() -> list[str]:
    """Every name of the package and of its submodules, as a user writes it."""
    inner = [f"sb.{submodule}.{name}" for submodule in sb._SUBMODULES for name in getattr(sb, submodule).__all__]
    return [*(f"sb.{name}" for name in sb.__all__), *inner]


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> list[tuple[str, str]]:
    """Each line of a script outside the project with what mypy says of it, types without their modules.

    Settings are those of the project, so that what its own check has stored about other packages is used here too.
    """
    folder = tmp_path_factory.mktemp("user")
    source = SCRIPT + "".join(f"reveal_type({name})\n" for name in names())
    (folder / "script.py").write_text(source)
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", folder / "script.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ended.stderr, ended.stderr
    messages: dict[int, list[str]] = defaultdict(list)
    for number, text in re.findall(r"^\S*script\.py:(\d+): (.*)$", ended.stdout, re.MULTILINE):
        messages[int(number)].append(text)
    assert messages, ended.stdout
    return [
        (line, re.sub(r"\b[a-z_]\w*\.(?=\w)", "", "\n".join(messages[number])))
        for number, line in enumerate(source.splitlines(), 1)
    ]


def test_a_users_script_is_checked_against_the_types_of_the_package(lines):
    script = lines[: len(SCRIPT.splitlines())]
    assert sum("  # " in line for line, _ in script) > 10
    for line, message in script:
        _, _, expected = line.partition("  # ")
        if expected.startswith("error"):
            assert expected in message
        else:
            assert message == (expected and f'note: Revealed type is "{expected}"'), line


def test_no_name_that_a_user_is_given_is_any(lines):
    revealed = lines[len(SCRIPT.splitlines()) :]
    assert len(revealed) > 50
    for line, message in revealed:
        assert message.startswith('note: Revealed type is "'), (line, message)
        # pandas and pynapple have no types that mypy reads here.
        if any(f"sb.{name})" in line for name in ("compare", "fit_all", "to_pandas", "to_pynapple")):
            continue
        assert not re.search(r'"Any"|-> Any"', message), (line, message)
