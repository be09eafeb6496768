# %% [markdown]
# # From DANDI and back: results of a published recording
#
# MC_Maze_Small of the Neural Latents Benchmark is dandiset 000140: motor cortex of a monkey that reaches through mazes. We
# fetch its test file, fit a model, write what it infers into an NWB file, check that as DANDI does, put it into a dandiset
# of our own, and fetch it from there again as anybody could.
#
# Run it as it is, and it uses the public archive as far as that needs no key: it stops before the upload. To go on, make a
# dandiset on the sandbox archive and give its number and your key (it stands on the archive's web page, under your initials):
#
#     export NWB_SBTT_TUTORIAL_DANDISET=200001 NWB_SBTT_TUTORIAL_UPLOAD_TO=dandi-sandbox DANDI_SANDBOX_API_KEY=…
#
# Without any network, serve a copy of the file from your own machine; in another terminal, give the lines that this prints,
# the last of which runs this page:
#
#     python -m tests.support.dandi.archive sub-Jenkins_ses-small_desc-test_ecephys.nwb

# %%
import json
import os
from pathlib import Path

import nwb_sbtt as sb
from nwb_sbtt.io.dandi.transfer import find_source
from nwb_sbtt.io.write.validation import validate

folder = Path(os.environ.get("NWB_SBTT_TUTORIAL_DIR", "tutorial_02"))
bin_width = float(os.environ.get("NWB_SBTT_TUTORIAL_BIN_WIDTH", "0.01"))
epochs = os.environ.get("NWB_SBTT_TUTORIAL_EPOCHS")
home = os.environ.get("NWB_SBTT_TUTORIAL_DANDISET")
upload_to = os.environ.get("NWB_SBTT_TUTORIAL_UPLOAD_TO")  # None: the archive that we read from
folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## What is in the dandiset
#
# An address is as good as a path. Without a version it means the newest that was published; which one that is, is said and
# kept. `inspect` reads the few parts of the file that it needs, and fetches none of the rest.

# %%
address = "DANDI:000140/sub-Jenkins/sub-Jenkins_ses-small_desc-test_ecephys.nwb"
print(find_source(address).asset)
for candidate in sb.inspect(address):
    share = "" if candidate.observed is None else f", {candidate.observed:.0%} observed"
    print(f"{candidate.path}: {candidate.type} {candidate.shape}{share}")

# %% [markdown]
# ## Fetching
#
# Each file gets its name only when its digest is that of the archive, so a file that is there is right. Beside it lies a
# small JSON file that says which asset of which version it is. An interrupted download goes on with the same call.

# %%
(recording,) = sb.dandi.download(address, folder, existing="skip")
print(recording, recording.stat().st_size, "bytes")

# %% [markdown]
# ## Fitting
#
# The trials of this file are short stretches around the onset of movement. Spikes outside each unit's `obs_intervals` were
# not recorded, and the reader says so in the mask.

# %%
data = sb.read_nwb(recording, bin_width=bin_width, trials=sb.Trials(event="move_onset_time", start=-0.25, stop=0.45))
print(dict(data.sizes), f"observed: {float(data.observed.mean()):.1%}")
train = sb.config.TrainConfig() if epochs is None else sb.config.TrainConfig(epochs=int(epochs))
fitted = sb.fit(data, sb.FitConfig(train=train), run_dir=folder / "run")
print("training ended:", fitted.finished)

# %% [markdown]
# ## A result that says where it came from
#
# What was fetched travels along: into the run folder, and into the result.

# %%
result = sb.write_nwb(fitted.infer(data), folder / "latents.nwb", source=recording, overwrite=True)
source = json.loads(sb.read_result(result).attrs["source"])
print(f"derived from DANDI:{source['dandiset']}/{source['version']}, {source['asset_path']}")

# %% [markdown]
# ## Would DANDI take it?
#
# `validate` (on the command line `nwb-sbtt validate`) runs pynwb's validator and nwbinspector with DANDI's settings. This
# recording was published before DANDI asked for the subject's age, which is therefore not in the result either. It cannot
# be made up: we say below that the file is to go nevertheless. In a recording of your own, set it.

# %%
for finding in validate(result):
    print(f"{finding.level}: {finding.message}\n    to do: {finding.hint}")

# %% [markdown]
# ## Uploading
#
# The file is named after subject and session, goes into the draft, and is linked to the dandiset that it is derived from.
# Results are not put into the recording's own dandiset unless you say so. Your key comes from the environment or the keyring,
# as the `dandi` program's does; it is written nowhere. On the command line, `nwb-sbtt upload` asks first.

# %%
if home is None:
    print("no NWB_SBTT_TUTORIAL_DANDISET is set: nothing is uploaded")
else:
    uploaded = sb.dandi.upload(result, home, instance=upload_to, existing="refresh", validation="ignore")
    print("uploaded:", uploaded)

# %% [markdown]
# ## And back
#
# What comes back is, byte for byte, what was sent; with this package it is a labelled Dataset again.

# %%
if home is not None:
    (back,) = sb.dandi.download(str(uploaded), folder / "back", instance=upload_to, existing="refresh")
    print("the same bytes:", back.read_bytes() == result.read_bytes())
    print(sb.read_result(back))
