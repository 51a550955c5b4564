"""Which dataset of an HDF5 model file holds which variable's values? Matched by name, not by position.

A layer's weights lie in the file as its trainable weights, then the others. Keras 3 reads them in the order that the
model has after loading, which is another one where a nested model was partly frozen before it was saved. Values of
equal shapes then land in other layers, without an error. So each is assigned by the name that the file gives it:

- ':0' is left out; names of nested models may stand in front of a layer's name or not, as they do in the files.
- Variables of layers inside a layer, such as an LSTM's cell, are found by their whole path, then by the path without
  the numbers that Keras gives (the second 'dense' may be 'dense_7'), in the order of these numbers, then by their last
  name, and at last by names that Keras changed (RENAMED).
- Layers whose names had slashes have them in the file: 'conv1/bn' for 'conv1_bn'.
- A layer whose name carries a number from a graph of TensorFlow 1 ('conv_1' for 'conv') is found without it.
- Each variable takes exactly one dataset of its shape, and each dataset is taken; but for states of random generators.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import ModelError

RANDOM_STATE = "statevar"  # of Keras 2's layers that draw random numbers in training
RENAMED = {"depthwise_kernel": "kernel"}  # of DepthwiseConv2D
TOP = "top_level_model_weights"
Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Slot:
    """A variable, and the names of the layers that it is in, from the outermost to its own."""

    path: Names
    variable: Any

    @property
    def name(self) -> str:
        """The whole path as text."""
        return "/".join(self.path)


@dataclass(frozen=True, eq=False)
class Dataset:
    """One array of the file and the parts of its name."""

    path: Names
    values: Any


Pairs = list[tuple[Slot, Dataset]]


@contextmanager
def assign_by_name(path: Path) -> Iterator[None]:
    """Make Keras' loader of HDF5 files assign weights by name while this is entered.

    Raises:
        ModelError: from within the loader, if a variable or a dataset of the file remains.
    """
    from keras.src.legacy.saving import legacy_h5_format as loader

    own = loader.load_weights_from_hdf5_group

    def assign(group: Any, model: Any, *_: Any, **__: Any) -> None:
        assign_weights(str(path), group, model)

    loader.load_weights_from_hdf5_group = assign
    try:
        yield
    finally:
        loader.load_weights_from_hdf5_group = own


def assign_weights(what: str, group: Any, model: Any) -> None:
    """Set all variables of a model from an HDF5 group `model_weights`. Raises: ModelError if names do not match."""
    layers = {layer.name: layer for layer in model.layers}
    stored = {name.replace("/", "_"): name for name in read_names(group, "layer_names")}
    for name, layer in layers.items():
        slots = list_slots(layer, (), {id(one) for one in layer.weights})
        datasets = read_datasets(group[stored[name]]) if name in stored else []
        assign_pairs(what, match(what, slots, datasets, list_units(layer)))
    left = [name for name in stored if name not in layers and read_names(group[stored[name]], "weight_names")]
    if left:
        raise explain(what, f"its file has weights of layer {left[0]!r}, which the model has not")
    own = [Slot((one.name,), one) for one in (*model._trainable_variables, *model._non_trainable_variables)]
    assign_pairs(what, match(what, own, read_datasets(group[TOP]) if TOP in group else [], {}))
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if hasattr(layer, "finalize_state"):  # what is computed from weights, such as Normalization's deviation
            layer.finalize_state()


def read_names(group: Any, key: str) -> list[str]:
    """Return an attribute of names, which lies in several numbered ones where it is long."""
    keys = [key] if key in group.attrs else []
    while not keys or f"{key}{len(keys) - 1}" in keys:
        if f"{key}{len(keys)}" not in group.attrs:
            break
        keys.append(f"{key}{len(keys)}")
    return [one.decode() if isinstance(one, bytes) else str(one) for name in keys for one in group.attrs[name]]


def read_datasets(group: Any) -> list[Dataset]:
    """Return the arrays of a layer's group in the order of the file, without states of random generators."""
    found = [(name, tuple(name.removesuffix(":0").split("/"))) for name in read_names(group, "weight_names")]
    return [Dataset(path, np.asarray(group[name])) for name, path in found if path[-1].lower() != RANDOM_STATE]


def list_slots(layer: Any, above: Names, wanted: set[int]) -> list[Slot]:
    """Return the variables of a layer and of the layers in it, those of random generators and metrics left out."""
    path = (*above, str(layer.name))
    own = [*layer._trainable_variables, *layer._non_trainable_variables]
    slots = [Slot((*path, str(one.name)), one) for one in own if id(one) in wanted]
    for inner in layer._layers:
        slots += list_slots(inner, path, wanted)
    unique = {id(slot.variable): slot for slot in reversed(slots)}
    return list(reversed(unique.values()))


def list_units(layer: Any, above: Names = ()) -> dict[Names, str]:
    """Return the layers of a model and of models nested in it, {path: name}; a plain layer is one by itself."""
    path = (*above, str(layer.name))
    if not is_graph(layer):
        return {path: path[-1]}
    return {key: name for inner in layer.layers for key, name in list_units(inner, path).items()}


def is_graph(layer: Any) -> bool:
    """Return whether this is a functional or sequential model, whose layers have names of their own in a file."""
    import keras

    return isinstance(layer, (keras.Sequential, keras.src.models.functional.Functional))


def match(what: str, slots: Sequence[Slot], datasets: Sequence[Dataset], units: dict[Names, str]) -> Pairs:
    """Return each variable with its dataset. Raises: ModelError for the first one without."""
    for whole in (True, False):
        pairs: Pairs = []
        missing: list[Slot] = []
        groups, over = split_by_unit(slots, datasets, units, whole)
        for own, given in groups:
            found, left, unused = match_unit(own, given)
            pairs, missing, over = [*pairs, *found], [*missing, *left], [*over, *unused]
        if not missing and not over:
            return pairs
    if missing:
        names = ", ".join(f"{'/'.join(one.path)} {one.values.shape}" for one in over[:3]) or "none"
        why = f"no weights in its file are those of {missing[0].name!r} {tuple(missing[0].variable.shape)}"
        raise explain(what, f"{why} by name and shape (left over: {names}{', …' * (len(over) > 3)})")
    raise explain(what, f"its file has weights {'/'.join(over[0].path)!r}, which the model has not")


def explain(what: str, why: str) -> ModelError:
    """Return the error for names that do not match."""
    return ModelError(what, why, "save it again with the Keras that made it: as .keras, or as a SavedModel")


def split_by_unit(
    slots: Sequence[Slot], datasets: Sequence[Dataset], units: dict[Names, str], whole: bool
) -> tuple[list[tuple[list[Slot], list[Dataset]]], list[Dataset]]:
    """Return the variables and datasets of each layer, and the datasets that name no layer."""
    if len(units) < 2:
        return [(list(slots), list(datasets))], []
    own: dict[Names, list[Slot]] = {key: [] for key in units}
    for slot in slots:
        key = next((key for key in units if slot.path[: len(key)] == key), slot.path[:-1])
        own.setdefault(key, []).append(slot)  # a model's own variables are in none of its layers
    owned = {key: key[-1] for key, some in own.items() if some}
    given: dict[Names, list[Dataset]] = {key: [] for key in owned}
    rest: list[Dataset] = []
    for dataset in datasets:
        named = find_unit(dataset.path, owned, whole)
        (rest if named is None else given[named]).append(dataset)
    empty = {key: name for key, name in owned.items() if not given[key]}
    over: list[Dataset] = []
    for dataset in rest:  # 'conv_1' for 'conv', where 'conv' itself is not in the file
        named = find_unit((strip_number(dataset.path[0]), *dataset.path[1:]), empty, whole)
        (over if named is None else given[named]).append(dataset)
    return [(own[key], given[key]) for key in owned], over


def find_unit(path: Names, units: dict[Names, str], whole: bool) -> Names | None:
    """Return the layer that a dataset's name names first, after the models around it; None for none or several.

    A layer's name may have slashes in the file, which it has lost since. whole: conv1/bn/gamma is the gamma of conv1_bn
    where there is such a layer, even if there is conv1 too; otherwise it is one of a layer bn in conv1.
    """
    for length in sorted(range(1, len(path)), reverse=whole):
        for index in range(len(path) - length):
            name = "_".join(path[index : index + length])
            named = [key for key, one in units.items() if one == name and set(path[:index]) <= set(key[:-1])]
            if len(named) == 1:
                return named[0]
    return None


def match_unit(slots: list[Slot], datasets: list[Dataset]) -> tuple[Pairs, list[Slot], list[Dataset]]:
    """Return one layer's variables with their datasets, and what is left of both."""
    start = len(find_common([slot.path for slot in slots])) if slots else 0
    first = len(find_common([one.path for one in datasets])) if datasets else 0
    pairs: Pairs = []
    keys: tuple[Callable[[Names, int], Names], ...] = (
        lambda path, skip: path[skip:],
        lambda path, skip: tuple(strip_number(part).lower() for part in path[skip:]),
        lambda path, skip: (strip_number(path[-1]).lower(),),
        lambda path, skip: (RENAMED.get(path[-1], path[-1]),),
    )
    for key in keys:
        for name in dict.fromkeys(key(slot.path, start) for slot in slots):
            own = sorted((slot for slot in slots if key(slot.path, start) == name), key=lambda one: numbers(one.path))
            given = sorted((one for one in datasets if key(one.path, first) == name), key=lambda one: numbers(one.path))
            fit = len(own) == len(given)
            fit = fit and all(tuple(a.variable.shape) == b.values.shape for a, b in zip(own, given, strict=True))
            if fit:
                pairs += zip(own, given, strict=True)
                slots = [slot for slot in slots if slot not in own]
                datasets = [one for one in datasets if one not in given]
    return pairs, slots, datasets


def find_common(paths: Sequence[Names]) -> Names:
    """Return the parts with which all paths begin, never their last."""
    parts = zip(*(path[:-1] for path in paths), strict=False)
    common: list[str] = []
    for some in parts:
        if len(set(some)) > 1:
            break
        common.append(some[0])
    return tuple(common)


def strip_number(part: str) -> str:
    """Return 'dense' for 'dense_7'."""
    return re.sub(r"_\d+$", "", part)


def numbers(path: Names) -> tuple[int, ...]:
    """Return the numbers at the ends of a path's parts, 0 for none: the order in which Keras named them."""
    found = (re.search(r"_(\d+)$", part) for part in path)
    return tuple(int(one[1]) if one else 0 for one in found)


def assign_pairs(what: str, pairs: Pairs) -> None:
    """Set the variables."""
    for slot, dataset in pairs:
        if len({id(slot.variable) for slot, _ in pairs}) != len(pairs):
            raise explain(what, f"two weights in its file are those of {slot.name!r}")
        slot.variable.assign(dataset.values)
