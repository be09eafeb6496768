"""NWB files in and out; pynwb is imported nowhere else."""
