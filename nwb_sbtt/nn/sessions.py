"""Tensors that belong to the channels of one session, by the session's own name."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


class SessionTables(nn.Module):
    """One tensor for each session, or for each session and field of it: a Parameter if it is trained, else a buffer.

    All that a model has of single channels stands in tables like this one, so that a model can say which of its tensors are of
    which session, whatever these are called (`tensors_by_session`).

    Examples
    --------
    >>> import torch
    >>> tables = SessionTables()
    >>> tables["day 1.nwb"] = nn.Parameter(torch.zeros(3))
    >>> tables["day 1.nwb", "scale"] = torch.ones(3)
    >>> list(tables.state_dict())
    ['@day 1%2Enwb', '@day 1%2Enwb:scale']
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, tuple[str, str]] = {}
        """Session and field of each of the names under which tensors are kept."""

    @staticmethod
    def key(session: str, field: str = "") -> str:
        """Name under which a tensor is kept: names of tensors must not hold a dot, and names of sessions may.

        Parameters
        ----------
        session : str
        field : str
            Name of the tensor among those of the session; empty where there is one alone.

        Returns
        -------
        str
        """
        name = session.replace("%", "%25").replace(".", "%2E")
        return f"@{name}:{field}" if field else f"@{name}"

    def __setitem__(self, at: str | tuple[str, str], tensor: Tensor) -> None:
        session, field = (at, "") if isinstance(at, str) else at
        key = self.key(session, field)
        self.places[key] = session, field
        if isinstance(tensor, nn.Parameter):
            self.register_parameter(key, tensor)
        else:
            self.register_buffer(key, tensor)

    def __getitem__(self, at: str | tuple[str, str]) -> Tensor:
        tensor: Tensor = getattr(self, self.key(at) if isinstance(at, str) else self.key(*at))
        return tensor


@dataclass(frozen=True)
class Place:
    """Where a tensor of a session stands in a model: in the table at `path`, for a session and a field.

    Parameters
    ----------
    path : str
        Dotted name of the table in the model.
    session : str
    field : str
        Name of the tensor among those of the session; empty where there is one alone.
    """

    path: str
    session: str
    field: str

    def of(self, session: str) -> str:
        """Name of the same tensor of another session.

        Parameters
        ----------
        session : str

        Returns
        -------
        str
        """
        return f"{self.path}.{SessionTables.key(session, self.field)}"


def tensors_by_session(module: nn.Module) -> dict[str, Place]:
    """Find the tensors of a module that belong to a session's channels.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    dict of name to Place
        For the names in the module's state.
    """
    return {
        f"{path}.{key}": Place(path, session, field)
        for path, tables in module.named_modules()
        if isinstance(tables, SessionTables)
        for key, (session, field) in tables.places.items()
    }
