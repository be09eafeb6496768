"""The whole round: from a file on DANDI to a result on DANDI and back, and no key anywhere."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from dandi.dandiapi import DandiAPIClient

from nwb_sbtt import FitConfig, Trials, fit, read_nwb, read_result, write_nwb
from nwb_sbtt.config import SAEConfig, TrainConfig
from tests.support.commands import call
from tests.support.dandi import VERSION

NLB = "sub-Jenkins_ses-small_desc-test_ecephys.nwb"
RESULT = "sub-Jenkins/sub-Jenkins_ses-small_desc-sbtt_ecephys.nwb"
FIT = FitConfig(model=SAEConfig(), train=TrainConfig(epochs=1), posterior_samples=2)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the packages that see requests log, down to the least."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    loggers = [logging.getLogger(name) for name in ("dandi", "requests", "urllib3", "keyring", "nwb_sbtt")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield stream
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.mark.slow
def test_a_round_over_dandi_gives_back_the_result_that_was_written_and_shows_no_key(
    archive, realdata, tmp_path, monkeypatch, capsys, log
):
    recorded = (realdata / "nlb" / NLB).read_bytes()
    archive.add("000140", f"sub-Jenkins/{NLB}", recorded)
    archive.publish("000140", VERSION)
    archive.create("000999", embargoed=True)
    monkeypatch.setenv(f"{archive.name}_API_KEY".upper(), archive.token)
    monkeypatch.chdir(tmp_path)

    assert call(monkeypatch, "download", "DANDI:000140", "--glob", "*test*", "--to", "data") == 0
    fetched = Path("data/000140/sub-Jenkins") / NLB
    assert fetched.read_bytes() == recorded
    maze = read_nwb(fetched, bin_width=0.05, trials=Trials(event="move_onset_time", start=-0.25, stop=0.45))
    write_nwb(fit(maze, FIT, run_dir="run").infer(maze), "latents.nwb", source=fetched)

    # The monkey's age is not in the recording, which was published before DANDI asked for it.
    assert call(monkeypatch, "validate", "latents.nwb") == 1
    assert "check_subject_age; to do: set subject.age" in capsys.readouterr().out
    words = ("upload", "latents.nwb", "--dandiset", "000999", "--yes")
    assert call(monkeypatch, *words) == 2
    assert archive.count("uploads") == 0
    assert call(monkeypatch, *words, "--validation", "ignore") == 0
    assert call(monkeypatch, "download", f"DANDI:000999/draft/{RESULT}", "--to", "back") == 0
    back = Path("back/000999") / RESULT
    assert back.read_bytes() == Path("latents.nwb").read_bytes()

    latents = read_result(back)
    source = json.loads(latents.attrs["source"])
    assert (source["dandiset"], source["version"]) == ("000140", VERSION)
    assert source["asset_path"] == f"sub-Jenkins/{NLB}"
    signature = json.loads(Path("run/signature.json").read_text())
    assert next(iter(signature["sessions"].values()))["source"]["asset_id"] == source["asset_id"]

    client = DandiAPIClient(archive.url, token=archive.token)
    metadata = client.get_dandiset("000999", "draft").get_asset_by_path(RESULT).get_raw_metadata()
    (link,) = [resource for resource in metadata["relatedResource"] if resource["relation"] == "dcite:IsDerivedFrom"]
    assert link["identifier"] == f"DANDI:000140/{VERSION}"
    assert metadata["wasAttributedTo"][0]["identifier"] == "Jenkins"

    printed = "".join(capsys.readouterr()) + log.getvalue()
    assert "GET" in log.getvalue()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert archive.token not in printed
    assert [path for path in written if archive.token.encode() in path.read_bytes()] == []
    assert not any(archive.token in str(request.headers) for request in archive.requests if request.role == "storage")
    assert sum(archive.token in str(request.headers) for request in archive.requests) > 5
    assert "X-Amz-Signature" not in "".join(path.read_text() for path in written if path.suffix == ".json")
