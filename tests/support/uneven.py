"""Recordings whose units were not all watched at the same moments, nor stand in the order of their ids."""

from dataclasses import replace

import numpy as np

from nwb_sbtt.data.intervals import difference


def unevenly_observed(recorded, seed, *, but=()):
    """Give each unit pauses of its own, with edges off the milliseconds, and shuffle the ids.

    The units of the rows `but` keep their intervals. Spikes within the pauses stay in the table, as in files whose spikes were
    found in the whole recording.
    """
    generator = np.random.default_rng(seed)
    end = recorded.intervals[0][-1, 1]
    intervals = []
    for row, each in enumerate(recorded.intervals):
        if row in but:
            intervals.append(each)
            continue
        begin = np.sort(generator.uniform(0, end - 1, round(end / 2)))
        pauses = np.column_stack([begin, begin + generator.uniform(0.002, 0.3, len(begin))])
        intervals.append(np.round(difference(each, pauses), 5))
    return replace(recorded, intervals=tuple(intervals), unit_id=generator.permutation(recorded.unit_id))
