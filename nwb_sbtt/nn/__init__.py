"""Parts that models are built from: read-in, likelihoods, priors, convolutions, recurrent cells, tensors by session.

Imports `calcium`, `batch`, `masks`, `config` and `errors`; never a file, never a label.
"""
