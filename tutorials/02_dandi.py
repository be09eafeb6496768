# %% [markdown]
# # From DANDI and back: results of a published recording
#
# MC_Maze_Small of the Neural Latents Benchmark is dandiset 000140: motor cortex of a monkey that reaches through mazes. We
# download its test file, fit a model, write rates and factors into an NWB file, validate the file as DANDI does, upload it to
# a dandiset of our own, and download it again as anybody could.
#
# Without settings, this page uses the public archive without a key, and stops before the upload. To upload, create a dandiset
# on the sandbox archive and set its number and your API key (on the archive's web page, under your initials):
#
#     export NWB_SBTT_TUTORIAL_DANDISET=200001 NWB_SBTT_TUTORIAL_UPLOAD_TO=dandi-sandbox DANDI_SANDBOX_API_KEY=…
#
# Without a network, serve a copy of the file from your own machine. The command prints lines for another terminal; the last
# one runs this page:
#
#     python -m tests.support.dandi.archive sub-Jenkins_ses-small_desc-test_ecephys.nwb

# %%
import json
import os
from pathlib import Path

import nwb_sbtt as sb
from nwb_sbtt.io.dandi.transfer import find_remote_file
from nwb_sbtt.io.write.validation import validate

folder = Path(os.environ.get("NWB_SBTT_TUTORIAL_DIR", "tutorial_02"))
bin_width = float(os.environ.get("NWB_SBTT_TUTORIAL_BIN_WIDTH", "0.01"))
epochs = os.environ.get("NWB_SBTT_TUTORIAL_EPOCHS")
dandiset = os.environ.get("NWB_SBTT_TUTORIAL_DANDISET")
upload_to = os.environ.get("NWB_SBTT_TUTORIAL_UPLOAD_TO")  # None: the archive of the download
folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## Look into the dandiset
#
# A DANDI address can be used like a path. Without a version it means the newest published one, whose number is printed and
# stored. `inspect` streams only the small parts of the file that it needs.

# %%
address = "DANDI:000140/sub-Jenkins/sub-Jenkins_ses-small_desc-test_ecephys.nwb"
print(find_remote_file(address).asset)
for candidate in sb.inspect(address):
    observed = "" if candidate.observed is None else f", {candidate.observed:.0%} observed"
    print(f"{candidate.path}: {candidate.type} {candidate.shape}{observed}")

# %% [markdown]
# ## Download
#
# A file gets its name only after its checksum is verified against the archive's, so an existing file is complete and correct.
# A small JSON file beside it records asset and version. After an interruption, the same call resumes the download.

# %%
(recording,) = sb.dandi.download(address, folder, existing="skip")
print(recording, recording.stat().st_size, "bytes")

# %% [markdown]
# ## Fit
#
# Trials are aligned to movement onset, from −0.25 to 0.45 s. Spikes outside each unit's `obs_intervals` were not recorded;
# the mask `observed` is false there.

# %%
data = sb.read_nwb(recording, bin_width=bin_width, trials=sb.Trials(event="move_onset_time", start=-0.25, stop=0.45))
print(dict(data.sizes), f"observed: {float(data.observed.mean()):.1%}")
train = sb.config.TrainConfig() if epochs is None else sb.config.TrainConfig(epochs=int(epochs))
fitted = sb.fit(data, sb.FitConfig(train=train), run_dir=folder / "run")
print("training ended:", fitted.finished)

# %% [markdown]
# ## Write the result, with its provenance
#
# Dandiset, version and asset of the source are stored in the run folder and in the result.

# %%
result = sb.write_nwb(fitted.infer(data), folder / "latents.nwb", source=recording, overwrite=True)
source = json.loads(sb.read_result(result).attrs["source"])
print(f"derived from DANDI:{source['dandiset']}/{source['version']}, {source['asset_path']}")

# %% [markdown]
# ## Validate it for DANDI
#
# `validate` (on the command line `nwb-sbtt validate`) runs pynwb's validator and nwbinspector with DANDI's settings. This
# recording was published before DANDI required the subject's age, so the age is missing in the result too. In a recording of
# your own, set it. Here we upload with `validation="ignore"`.

# %%
for finding in validate(result):
    print(f"{finding.level}: {finding.message}\n    to do: {finding.hint}")

# %% [markdown]
# ## Upload
#
# The file is named after subject and session, uploaded to the draft version, and linked to the dandiset from which it is
# derived. Results are uploaded to the dandiset of the recording itself only on request. The API key is read from the
# environment or the keyring, as by the `dandi` program, and never stored. `nwb-sbtt upload` asks for confirmation first.

# %%
if dandiset is None:
    print("no NWB_SBTT_TUTORIAL_DANDISET is set: nothing is uploaded")
else:
    uploaded = sb.dandi.upload(result, dandiset, instance=upload_to, existing="refresh", validation="ignore")
    print("uploaded:", uploaded)

# %% [markdown]
# ## Download it again
#
# The download is identical to the upload, byte for byte, and can be read as a labelled Dataset.

# %%
if dandiset is not None:
    (downloaded,) = sb.dandi.download(str(uploaded), folder / "back", instance=upload_to, existing="refresh")
    print("the same bytes:", downloaded.read_bytes() == result.read_bytes())
    print(sb.read_result(downloaded))
