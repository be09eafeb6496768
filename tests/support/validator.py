"""pynwb's validator in a fraction of its time: the schema that is stored in a file is parsed once, not once a file."""

from functools import cache

import h5py
import pytest
from hdmf.build import BuildManager, TypeMap
from pynwb import validation

_parse = validation.get_cached_namespaces_to_validate


def remember_schemas(patch: pytest.MonkeyPatch) -> None:
    """Let files that hold the same schema, to the byte, be validated against one reading of it.

    Every file is still checked whole. Parsing takes three quarters of a validation, which is most of a write.
    """
    patch.setattr(validation, "get_cached_namespaces_to_validate", _namespaces)


def _namespaces(path=None, driver=None, aws_region=None, io=None):
    if io is not None or driver is not None or not h5py.is_hdf5(path):
        return _parse(path=path, driver=driver, aws_region=aws_region, io=io)
    names, manager, dependencies = _parsed(_Schema(path))
    # A manager remembers the objects of the file that it read, so each file has its own.
    return list(names), manager and BuildManager(type_map=TypeMap(manager.type_map.namespace_catalog)), dependencies


class _Schema:
    """The schema in a file, equal to another where all bytes are; `path` is where it was first seen."""

    def __init__(self, path):
        self.path, texts = path, {}
        with h5py.File(path, "r") as file:
            if ".specloc" in file.attrs:
                file[file.attrs[".specloc"]].visititems(lambda name, item: _keep(texts, name, item))
        self.texts = tuple(texts.items())

    def __hash__(self):
        return hash(self.texts)

    def __eq__(self, other):
        return self.texts == other.texts


def _keep(texts, name, item):
    if isinstance(item, h5py.Dataset):
        texts[name] = item[()]


@cache
def _parsed(schema):
    return _parse(path=str(schema.path))
