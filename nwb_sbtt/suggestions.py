"""The known name that an unknown one most likely means. Imports nothing of the package."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, names: Iterable[str], *, n: int = 1, cutoff: float = 0.6) -> list[str]:
    """Find the names most similar to a word that is none of them; the word itself is never among them.

    Parameters
    ----------
    word : str
    names : iterable of str
    n : int
        At most so many are returned.
    cutoff : float
        Least similarity, from 0 to 1, as `difflib` measures it. Upper and lower case count as the same.

    Returns
    -------
    list of str
        The most similar one first.

    Examples
    --------
    >>> nearest("lfadss", ["conv", "lfads"])
    ['lfads']
    """
    by_case: dict[str, list[str]] = {}
    for name in names:
        if name != word:
            by_case.setdefault(name.casefold(), []).append(name)
    near = difflib.get_close_matches(word.casefold(), by_case, n=n, cutoff=cutoff)
    return [name for folded in near for name in by_case[folded]][:n]
