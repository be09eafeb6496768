"""Streams of nwb_sbtt during an experiment: `lsl` connects them to the Lab Streaming Layer, `ezmsg` to units of ezmsg.

`bins` has what both share: bins from samples with time stamps, and what happens to lost and late ones.
"""
