"""From Datasets to a fitted model in its run folder.

`fit` is the door and `fitted` what it gives; `preparation` makes data ready, `signature` says what a fit is of, `runfolder`
keeps it; `initialisation` starts from another fit, `ensemble` averages several. May import `train`, `evaluate`, `models`,
`data` and what these import.
"""
