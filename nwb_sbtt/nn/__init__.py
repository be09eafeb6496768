"""Parts that models are built from: likelihoods, priors, recurrent cells, per-session read-in and read-out."""
