"""Numerics of sampled voltages: filters, LFP and band power, threshold crossings; no file, no torch.

Imports `data`, `config` and `errors`.
"""
