"""From Datasets to a fitted model in its run folder.

`fit` fits and `fitted` is its result; `preparation` checks and splits data, `signature` identifies a fit, `runfolder` holds its
plain files; `initialisation` starts a fit from another, `stitching` starts sessions alike, `alignment` maps factors of one
session to those of another, `ensemble` averages models, `assembly` makes one of finished fits. May import `train`,
`evaluate`, `models`, `data` and what these import.
"""
