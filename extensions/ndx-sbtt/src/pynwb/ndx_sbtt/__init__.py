"""NWB extension for inferred neural dynamics."""
