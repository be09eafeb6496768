"""One file a model; read `sae` first."""
