"""The labelled container and everything that needs no file: binning, masks from intervals, cutting, splits, simulation."""
