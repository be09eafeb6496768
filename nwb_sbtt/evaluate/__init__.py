"""Masked metrics and the baselines that every fit stands beside."""
