"""pynwb's validator in a fraction of its time: a schema that is stored in files is read once, not once a file."""

from contextlib import nullcontext

import h5py
import pytest
from hdmf.backends.hdf5 import HDF5IO
from hdmf.build import BuildManager, TypeMap
from hdmf.validate import ValidatorMap
from pynwb import validation

_parse = validation.get_cached_namespaces_to_validate
_parsed = {}
_validators = {}


def remember_schemas(patch: pytest.MonkeyPatch) -> None:
    """Let files that hold the same schema, to the byte, be validated against one reading of it.

    Every file is still checked whole. Parsing, and making what checks each type, take most of a validation, which is most of
    a write.
    """
    patch.setattr(validation, "get_cached_namespaces_to_validate", _namespaces)
    patch.setattr(validation, "ValidatorMap", _validator)


def _validator(namespace):
    """What checks the types of a namespace, which is kept with it: another one may have its address later."""
    if id(namespace) not in _validators:
        _validators[id(namespace)] = namespace, ValidatorMap(namespace)
    return _validators[id(namespace)][1]


def _namespaces(path=None, driver=None, aws_region=None, io=None):
    if driver is not None or not (isinstance(io, HDF5IO) or (io is None and h5py.is_hdf5(path))):
        return _parse(path=path, driver=driver, aws_region=aws_region, io=io)
    with h5py.File(path, "r") if io is None else nullcontext(io._file) as file:
        schema = _schema(file)
    if schema not in _parsed:
        _parsed[schema] = _parse(path=path, io=io)
    names, manager, dependencies = _parsed[schema]
    # A manager remembers the objects of the file that it read, so each file has its own.
    return list(names), manager and BuildManager(type_map=TypeMap(manager.type_map.namespace_catalog)), dependencies


def _schema(file):
    """All of the schema in a file: names and texts."""
    texts = []

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            texts.append((name, item[()]))

    if ".specloc" in file.attrs:
        file[file.attrs[".specloc"]].visititems(keep)
    return tuple(texts)
