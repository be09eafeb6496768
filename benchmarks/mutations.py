"""Damage to files, for `damage.py`: each function changes a file in one way, drawn from a generator, and says what it did."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Mutation = Callable[[Path, np.random.Generator], str]
ATTRIBUTES = {
    *(
        "neurodata_type",
        "namespace",
        "object_id",
        "colnames",
        "table",
        "target",
        "unit",
        "conversion",
        "offset",
        "rate",
    ),
    *("resolution", "nwb_version", "description", "starting_time", "help", "interval", "comments"),
}
NOT_TEXT = b"caf\xe9 \xff\xfe\x80"
"""Bytes that are not UTF-8."""
ODD_NUMBERS = (float("nan"), float("inf"), -float("inf"), -1, 0, 1e300, -1e300, 2**31, 2**62, 1e-300, -0.5)
ODD_VALUES: tuple[Any, ...] = (*ODD_NUMBERS, None, True, "", "x", [], {}, [[]], "\x1b[2J\u2028", [1, "a"], {"a": None})
ODD_TYPES = (
    *("i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "bool", "S3"),
    *("text", "bytes", "compound", "vlen", "reference", "opaque"),
)
DEEP = 3000
"""Levels of nesting that no parser is asked for in earnest."""


def mutate_bytes(path: Path, random: np.random.Generator) -> str:
    """Damage a file of any format, as a broken disk or an interrupted copy does."""
    content = bytearray(path.read_bytes())
    size = len(content)
    # Half of the damage falls into the first tenth, where formats keep what tells the rest apart.
    reach = size if random.random() < 0.5 else max(64, size // 10)
    start = int(random.integers(0, max(1, min(size, reach))))
    length = int(2 ** random.uniform(0, np.log2(max(2, size / 2))))
    kind = str(random.choice(["cut", "flip", "flip", "flip", "zero", "noise", "copy", "drop", "append", "empty"]))
    if kind == "cut":
        del content[start:]
    elif kind == "flip":
        length = int(2 ** random.uniform(0, 7))
        for place in random.integers(0, max(1, min(size, reach)), length):
            content[place] ^= 1 << int(random.integers(8))
    elif kind == "zero":
        content[start : start + length] = bytes(len(content[start : start + length]))
    elif kind == "noise":
        content[start : start + length] = random.bytes(len(content[start : start + length]))
    elif kind == "copy":
        source = int(random.integers(0, max(1, size - length)))
        content[start : start + length] = content[source : source + length]
    elif kind == "drop":
        del content[start : start + length]
    elif kind == "append":
        content += random.bytes(length)
    else:
        content = bytearray(b"" if random.random() < 0.5 else b"not what the name says\n" * 40)
    path.write_bytes(content)
    return f"{kind} {length} bytes at {start} of {size}"


def mutate_hdf5(path: Path, random: np.random.Generator) -> str:
    """Damage what an HDF5 file holds, while it stays an HDF5 file."""
    with h5py.File(path, "r+") as file:
        groups: list[h5py.Group] = []
        arrays: list[h5py.Dataset] = []
        file.visititems(lambda _, item: (groups if isinstance(item, h5py.Group) else arrays).append(item))
        groups = [group for group in groups if not group.name.startswith("/specifications")]
        arrays = [array for array in arrays if not array.name.startswith("/specifications")]
        kinds: dict[str, tuple[float, Callable[[], str]]] = {
            "type": (4, lambda: _other_type(_draw(arrays, random), random)),
            "shape": (4, lambda: _other_shape(_draw(arrays, random), random)),
            "values": (5, lambda: _other_values(_draw(arrays, random), random)),
            "huge": (1, lambda: _huge(_draw(arrays, random), random)),
            "chunk": (1, lambda: _broken_chunk(_draw(arrays, random), random)),
            "removed": (2, lambda: _removed(_draw([*groups, *arrays], random))),
            "attribute": (4, lambda: _other_attribute(_draw([file, *groups, *arrays], random), random)),
            "swapped": (2, lambda: _swapped(groups, arrays, random)),
            "link": (2, lambda: _linked(file, _draw([*groups, *arrays], random), random)),
            "kind": (1, lambda: _other_kind(_draw([*groups, *arrays], random))),
            "name": (1, lambda: _renamed(_draw([*groups, *arrays], random), random)),
        }
        weights = np.array([weight for weight, _ in kinds.values()])
        return kinds[str(random.choice(list(kinds), p=weights / weights.sum()))][1]()


def mutate_json(path: Path, random: np.random.Generator) -> str:
    """Damage a JSON file, or one whose lines are JSON."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        lines = text.splitlines()
        row = int(random.integers(len(lines)))
        lines[row], what = _other_json(lines[row], random)
        text = "\n".join(lines) + "\n"
    else:
        text, what = _other_json(text, random)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return what


def mutate_yaml(path: Path, random: np.random.Generator) -> str:
    """Damage a YAML file of settings."""
    import yaml

    if random.random() < 0.7:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        what = change_value(content, random)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return what
    texts = {
        "tag": "model: !!python/object/apply:os.getcwd []\n",
        "tab": "model:\n\tname: lfads\n",
        "deep": "model: " + "[" * DEEP + "]" * DEEP + "\n",
        "aliases": "a: &a [x, x, x]\n" + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}]\n" for i in range(9)),
        "itself": "model: &a {name: lfads, rest: *a}\n",
        "list": "- 1\n- 2\n",
        "number": "17\n",
        "date": "seed: 2024-01-01\n",
        "keys": "? [1, 2]\n: 3\n1: 2\nnull: 3\n",
        "digits": f"seed: {'9' * 5000}\n",
        "control": "seed: \x07\n",
    }
    name = str(random.choice(list(texts)))
    path.write_text(texts[name], encoding="utf-8")
    return f"text: {name}"


def mutate_safetensors(path: Path, random: np.random.Generator) -> str:
    """Damage the header or the tensors of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    names = [name for name in header if name != "__metadata__"]
    kind = str(random.choice(["length", "header", "values", "type", "shape", "name", "drop", "metadata"]))
    what = kind
    if kind == "length":
        length = int(random.choice([0, 1, 7, length - 3, length + 9, 2**40, 2**63]))
        path.write_bytes(struct.pack("<Q", length) + content[8:])
        return f"length {length}"
    chosen = str(random.choice(names))
    if kind == "header":
        what = change_value(header, random)
    elif kind == "values":
        start, stop = header[chosen]["data_offsets"]
        numbers = np.frombuffer(bytes(body[start:stop]), dtype="f4").copy() if (stop - start) % 4 == 0 else np.empty(0)
        odd = random.choice([np.nan, np.inf, 0, 1e30, -1e30])
        numbers[random.random(len(numbers)) < 0.3] = odd
        body[start : start + numbers.nbytes] = numbers.astype("f4").tobytes()
        what = f"values {odd} in {chosen}"
    elif kind == "type":
        header[chosen]["dtype"] = str(random.choice(["F16", "BF16", "I32", "F64", "BOOL", "XX"]))
    elif kind == "shape":
        header[chosen]["shape"] = [header[chosen]["shape"][::-1], [1, *header[chosen]["shape"]], [-1], [2**40]][
            random.integers(4)
        ]
    elif kind == "name":
        header[f"{chosen}.x"] = header.pop(chosen)
    elif kind == "drop":
        del header[chosen]
    else:
        told = header["__metadata__"]
        key = str(random.choice(list(told)))
        told[key] = (
            _other_json(told[key], random)[0] if told[key].startswith("{") else str(random.choice(["", "9", "x"]))
        )
        what = f"metadata {key}: {told[key][:60]}"
    encoded = json.dumps(header).encode(errors="replace")
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(body))
    return f"{what} ({chosen})"


def change_value(content: Any, random: np.random.Generator) -> str:
    """Replace, remove or add one value of nested dicts and lists."""
    places = list(_places(content, ()))
    if not places:
        return "nothing to change"
    *parents, last = places[random.integers(len(places))]
    parent = content
    for key in parents:
        parent = parent[key]
    kind = str(random.choice(["replace", "replace", "replace", "remove", "add"]))
    if kind == "replace":
        parent[last] = value = ODD_VALUES[random.integers(len(ODD_VALUES))]
        return f"{[*parents, last]} = {value!r}"
    if kind == "remove":
        del parent[last]
        return f"{[*parents, last]} removed"
    if isinstance(parent, dict):
        parent[f"{last}_"] = parent[last]
    else:
        parent.append(parent[last])
    return f"{[*parents, last]} doubled"


def _places(content: Any, above: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    keys: Sequence[Any] = list(content) if isinstance(content, dict) else range(min(len(content), 5))
    for key in keys:
        yield (*above, key)
        if isinstance(content[key], dict | list) and content[key]:
            yield from _places(content[key], (*above, key))


def _other_json(text: str, random: np.random.Generator) -> tuple[str, str]:
    if random.random() < 0.75:
        content = json.loads(text)
        what = change_value(content, random)
        return json.dumps(content), what
    texts = {"deep": "[" * DEEP, "list": "[]", "null": "null", "number": "1e999", "text": '"x"', "empty": ""}
    texts |= {"nan": "NaN", "twice": text + text, "digits": "9" * 5000, "half": text[: len(text) // 2]}
    name = str(random.choice(list(texts)))
    return texts[name], f"text: {name}"


def _draw(items: Sequence[Any], random: np.random.Generator) -> Any:
    return items[int(random.integers(len(items)))]


def _replace(array: h5py.Dataset, **options: Any) -> None:
    """Put another dataset into the place of one, with its attributes."""
    parent, name, attributes = array.parent, array.name.split("/")[-1], dict(array.attrs)
    del parent[name]
    stored = parent.create_dataset(name, **options)
    for key, value in attributes.items():
        stored.attrs[key] = value


def _other_type(array: h5py.Dataset, random: np.random.Generator) -> str:
    kind, shape, name, file = str(_draw(ODD_TYPES, random)), array.shape or (), array.name, array.file
    numbers = random.integers(0, 100, shape)
    if kind in ("text", "bytes"):
        text = np.full(shape, "x" if kind == "text" else NOT_TEXT, dtype=object)
        _replace(array, data=text, dtype=h5py.string_dtype("utf-8"))
    elif kind == "compound":
        _replace(array, data=np.zeros(shape, dtype=[("a", "i4"), ("b", "f8")]))
    elif kind == "vlen":
        _replace(array, shape=shape or (1,), dtype=h5py.vlen_dtype(np.int32))
    elif kind == "reference":
        targets = np.full(shape, file.ref, dtype=object)
        _replace(array, data=targets, dtype=h5py.ref_dtype)
    elif kind == "opaque":
        _replace(array, data=np.zeros(shape, dtype="V5"))
    else:
        _replace(array, data=numbers.astype(kind))
    return f"{name} as {kind}"


def _other_shape(array: h5py.Dataset, random: np.random.Generator) -> str:
    values, name = array[()], array.name
    values = np.asarray(values)
    flat = values.reshape(-1)
    options = {
        "transposed": values.T,
        "one axis more": values[..., None],
        "one axis before": values[None],
        "flat": flat,
        "empty": flat[:0],
        "no rows": values[:0] if values.ndim else flat[:0],
        "last dropped": values[:-1] if values.ndim else flat,
        "doubled": np.concatenate([values, values]) if values.ndim else np.stack([values, values]),
        "scalar": flat[0] if len(flat) else values,
        "one column": values[..., :1] if values.ndim else values,
    }
    kind = str(_draw(list(options), random))
    ragged = h5py.check_vlen_dtype(array.dtype)
    if ragged is not None:
        return _other_type(array, random)
    _replace(array, data=options[kind], dtype=array.dtype)
    return f"{name} {kind}"


def _other_values(array: h5py.Dataset, random: np.random.Generator) -> str:
    values, name = np.array(array[()]), array.name
    if values.dtype.kind not in "iufb":
        if values.dtype.kind != "O" or not values.size or not isinstance(values.reshape(-1)[0], bytes | str):
            return _other_type(array, random)
        values.reshape(-1)[random.integers(values.size)] = NOT_TEXT
        values = np.array([v.encode() if isinstance(v, str) else v for v in values.reshape(-1)], object).reshape(
            values.shape
        )
        _replace(array, data=values, dtype=h5py.string_dtype("utf-8"))
        return f"{name} not UTF-8"
    flat = values.reshape(-1)
    if not len(flat):
        return f"{name} is empty"
    kind = str(
        _draw(["one", "some", "all", "reversed", "shuffled", "negative", "scaled", "offset", "constant"], random)
    )
    odd = ODD_NUMBERS[random.integers(len(ODD_NUMBERS))]
    with np.errstate(all="ignore"):
        number = np.array(odd, dtype=np.float64).astype(flat.dtype) if flat.dtype.kind == "f" else _integer(odd, flat)
        if kind == "one":
            flat[random.integers(len(flat))] = number
        elif kind == "some":
            flat[random.random(len(flat)) < 0.2] = number
        elif kind == "all":
            flat[:] = number
        elif kind == "reversed":
            flat = flat[::-1].copy()
        elif kind == "shuffled":
            random.shuffle(flat)
        elif kind == "negative" and flat.dtype.kind != "b":
            flat = (0 - flat).astype(flat.dtype)
        elif kind == "scaled" and flat.dtype.kind != "b":
            flat = (flat.astype(np.float64) * 1000).astype(flat.dtype)
        elif kind == "offset" and flat.dtype.kind != "b":
            flat = (flat.astype(np.float64) + 10**6).astype(flat.dtype)
        else:
            flat[:] = flat[0]
    _replace(array, data=flat.reshape(values.shape), dtype=values.dtype)
    return f"{name} {kind} {odd if kind in ('one', 'some', 'all') else ''}"


def _integer(number: float, like: np.ndarray) -> Any:
    if like.dtype.kind == "b":
        return number > 0
    info = np.iinfo(like.dtype)
    return like.dtype.type(min(max(int(np.nan_to_num(number)), int(info.min)), int(info.max)))


def _huge(array: h5py.Dataset, random: np.random.Generator) -> str:
    """Declare more than any machine holds; nothing of it is stored."""
    name, size = array.name, int(10 ** random.uniform(9, 13))
    shape = (size, *array.shape[1:]) if array.shape else (size,)
    chunks = (min(size, 1 << 12), *array.shape[1:]) if array.shape else (1 << 12,)
    _replace(array, shape=shape, dtype=array.dtype, chunks=tuple(max(1, n) for n in chunks))
    return f"{name} declares {size} rows"


def _broken_chunk(array: h5py.Dataset, random: np.random.Generator) -> str:
    """Compressed bytes that cannot be decompressed, or that become more than they may."""
    import zlib

    name, values = array.name, np.asarray(array[()])
    if values.dtype.kind not in "iuf" or not values.size or not values.ndim:
        return _other_type(array, random)
    _replace(array, data=values, chunks=values.shape, compression="gzip")
    stored = array.file[name]
    kind = str(_draw(["noise", "short", "long", "none", "filters skipped"], random))
    content = {
        "noise": random.bytes(50),
        "short": zlib.compress(values.tobytes())[:-9],
        "long": zlib.compress(bytes(64 * 2**20)),
        "none": b"\0",
        "filters skipped": values.tobytes()[:-3],
    }[kind]
    stored.id.write_direct_chunk((0,) * values.ndim, content, 1 if kind == "filters skipped" else 0)
    return f"{name} compressed wrongly: {kind}"


def _removed(item: Any) -> str:
    name = item.name
    del item.parent[name]
    return f"{name} removed"


def _other_attribute(item: Any, random: np.random.Generator) -> str:
    names = [name for name in item.attrs if name in ATTRIBUTES] or list(item.attrs)
    if not names:
        return "no attribute to change"
    name = str(_draw(names, random))
    values: dict[str, Any] = {
        "removed": None,
        "not UTF-8": np.array(NOT_TEXT, dtype=h5py.string_dtype("utf-8")),
        "another type": "VectorIndex",
        "unknown": "NoSuchThing",
        "empty": "",
        "number": 17,
        "nan": np.nan,
        "zero": 0.0,
        "huge": 1e300,
        "negative": -1.0,
        "list": np.arange(3),
        "nothing": h5py.Empty("f8"),
        "reference": item.file.ref,
        "another version": "1.0.6",
    }
    kind = str(_draw(list(values), random))
    del item.attrs[name]
    if kind != "removed":
        item.attrs[name] = values[kind]
    return f"{item.name}@{name} {kind}"


def _swapped(groups: Sequence[Any], arrays: Sequence[Any], random: np.random.Generator) -> str:
    """Exchange two items of one kind, or put a copy of one into the place of another."""
    items = groups if groups and random.random() < 0.5 else arrays
    one, other = _draw(items, random), _draw(items, random)
    first, second, file = one.name, other.name, one.file
    if first.startswith(second) or second.startswith(first):
        return "one lies in the other"
    if random.random() < 0.5:
        file.move(first, "/_aside")
        file.move(second, first)
        file.move("/_aside", second)
        return f"{first} and {second} swapped"
    del file[second]
    try:
        file.copy(first, second)
    except RuntimeError:  # the library does not copy all that lies in a file
        return f"{second} removed"
    return f"{second} is a copy of {first}"


def _linked(file: h5py.File, item: Any, random: np.random.Generator) -> str:
    name = item.name
    parent, last = item.parent, name.split("/")[-1]
    kind = str(_draw(["itself", "parent", "root", "nowhere", "missing file", "hard cycle", "another"], random))
    del parent[last]
    if kind == "hard cycle":
        parent[last] = parent
    elif kind == "missing file":
        parent[last] = h5py.ExternalLink("not_there.nwb", name)
    else:
        targets = {
            "itself": name,
            "parent": parent.name,
            "root": "/",
            "nowhere": "/no/such/thing",
            "another": "/general",
        }
        parent[last] = h5py.SoftLink(targets[kind])
    return f"{name} links to {kind}"


def _other_kind(item: Any) -> str:
    """A group where an array was, and the other way round."""
    name, parent, was_group = item.name, item.parent, isinstance(item, h5py.Group)
    attributes = dict(item.attrs)
    del parent[name]
    new = parent.create_dataset(name, data=np.arange(4.0)) if was_group else parent.create_group(name)
    for key, value in attributes.items():
        new.attrs[key] = value
    return f"{name} is now {'an array' if was_group else 'a group'}"


def _renamed(item: Any, random: np.random.Generator) -> str:
    name = item.name
    last = str(_draw(["x", "data", "id", "a" * 300, "\u2603", "a b", "..x"], random))
    target = f"{item.parent.name.rstrip('/')}/{last}"
    if target in item.file:
        return "name is taken"
    item.file.move(name, target)
    return f"{name} is now called {last[:20]}"
