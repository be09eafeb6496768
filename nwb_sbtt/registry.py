"""Things that can be added by name: by a decorator in Python, or by an entry point of another package."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from nwb_sbtt.errors import ConfigError
from nwb_sbtt.suggestions import nearest

T = TypeVar("T")
THIS_PROGRAM = "this program"
"""Where something comes from that was registered without a package."""


class Registry(Generic[T]):
    """Things of one kind by name: those of the package, those registered in this process, those of installed packages.

    Nothing is imported before it is asked for. A name stands for one thing: a second one under the same name is an error.

    Parameters
    ----------
    kind : str
        What one of them is called in messages, such as "model".
    group : str
        Group of entry points that is searched, such as "nwb_sbtt.models".
    builtin : mapping of name to "module:attribute"
        Those of the package itself.
    complaint : callable (name, thing) -> str, optional
        What is wrong with a thing that somebody else adds; empty where nothing is.
    reserved : collection of str, optional
        Names that nothing may have.

    Examples
    --------
    >>> colours = Registry[str]("colour", "example.colours", {})
    >>> colours.register("red", "#ff0000")
    >>> colours["red"]
    '#ff0000'
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, str],
        *,
        complaint: Callable[[str, object], str] = lambda name, thing: "",
        reserved: Collection[str] = (),
    ):
        self.kind, self.group, self._complaint, self._reserved = kind, group, complaint, reserved
        self._places: dict[str, str | EntryPoint] = dict(builtin)
        self._things: dict[str, T] = {}
        self._clashes: dict[str, list[str]] = {}
        self._searched = False

    def register(self, name: str, thing: T) -> None:
        """Add one under a name.

        Parameters
        ----------
        name : str
            Under which it is found; a second thing of that name is refused.
        thing : object
            A class or a function, as the kind wants it.

        Raises
        ------
        ConfigError
            If another one has that name, or the thing is not what it should be.
        """
        taken = self._things.get(name, thing) is not thing or (name in self._places and not self._is_at(name, thing))
        if taken or name in self._reserved:
            raise ConfigError(f"a {self.kind} {name!r} exists already; choose another name")
        if complaint := self._complaint(name, thing):
            raise ConfigError(f"the {self.kind} {name!r} {complaint}")
        self._things[name] = thing

    def decorator(self, name: str) -> Callable[[T], T]:
        """Give a decorator that adds what it decorates under a name.

        Parameters
        ----------
        name : str
            Under which it is found.

        Returns
        -------
        callable
            Takes a thing and returns it.
        """

        def add(thing: T) -> T:
            self.register(name, thing)
            return thing

        return add

    def names(self) -> list[str]:
        """Names of all, in the package's order and then alphabetically."""
        self._search()
        first = list(self._places)
        return first + sorted(name for name in self._things if name not in self._places)

    def package(self, name: str) -> str:
        """Give the package that the one of that name comes from; "this program" if it was registered without a package.

        Parameters
        ----------
        name : str

        Returns
        -------
        str

        Raises
        ------
        ConfigError
            If there is none of that name.
        """
        if name not in self:
            self[name]
        place = self._places.get(name)
        if place is not None and not isinstance(place, str):
            return _package_of(place)
        module = place if place is not None else str(getattr(self._things[name], "__module__", ""))
        top = module.partition(":")[0].partition(".")[0]
        return top if top != "__main__" else THIS_PROGRAM

    def values(self) -> list[T]:
        """Give all, in the order of their names, imported now if they were not before."""
        return [self[name] for name in self.names()]

    def __contains__(self, name: object) -> bool:
        """Whether there is one of that name."""
        return name in self._things or name in self._places or name in self.names()

    def __getitem__(self, name: str) -> T:
        """Give the one of that name, imported now if it was not before.

        Raises
        ------
        ConfigError
            If there is none, with the nearest name and all names; if several packages have one of that name; or if its package
            cannot be imported or names something else.
        """
        self._search()
        if name not in self:
            near = nearest(name, self.names())
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"there is no {self.kind} {name!r}; {hint}available: {', '.join(self.names())}. To use one from "
                "another package, install that package or import the module that registers it"
            )
        if name in self._clashes:
            packages = " and ".join(repr(package) for package in self._clashes[name])
            raise ConfigError(f"the packages {packages} both have a {self.kind} {name!r}; uninstall one of them")
        if name not in self._things:
            self._things[name] = self._load(name, self._places[name])
        return self._things[name]

    def _load(self, name: str, place: str | EntryPoint) -> T:
        if isinstance(place, str):
            module, _, attribute = place.partition(":")
            builtin: T = getattr(import_module(module), attribute)
            return builtin
        package = _package_of(place)
        try:
            thing: T = place.load()
        except Exception as error:  # Another package's own code runs here, and may fail in any way.
            cause = f"{type(error).__name__}: {error}"
            raise ConfigError(
                f"the {self.kind} {name!r} of the package {package!r} cannot be imported ({cause}); reinstall or remove that "
                "package"
            ) from error
        if complaint := self._complaint(name, thing):
            raise ConfigError(f"the {self.kind} {name!r} of the package {package!r} {complaint}")
        return thing

    def _search(self) -> None:
        """Look for entry points, once: reading the metadata of all packages takes some milliseconds."""
        if self._searched:
            return
        self._searched = True
        for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
            if point.name in self._places or point.name in self._reserved:
                first = self.package(point.name) if point.name in self._places else __name__.partition(".")[0]
                self._clashes.setdefault(point.name, [first]).append(_package_of(point))
            else:
                self._places[point.name] = point

    def search_again(self) -> None:
        """Look again for entry points, after a package was installed or removed while this program runs."""
        for name in [name for name, place in self._places.items() if not isinstance(place, str)]:
            del self._places[name]
            self._things.pop(name, None)
        self._clashes.clear()
        self._searched = False

    def _is_at(self, name: str, thing: T) -> bool:
        """Whether a thing is the one that a name stands for: a module that registers what an entry point names."""
        place = self._places[name]
        module, _, attribute = (place if isinstance(place, str) else place.value).partition(":")
        return (getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)) == (module, attribute)


def _package_of(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module.partition(".")[0]
