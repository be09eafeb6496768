"""An archive on loopback that speaks as DANDI does."""

PATH = "sub-S1/sub-S1_ses-session-1_ecephys.nwb"
VERSION = "0.220113.0408"
