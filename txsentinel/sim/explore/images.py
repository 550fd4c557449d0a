"""
Images: the state of a Sentinel as a tuple of numbers that can be compared, stored and restored.

Copying a core with ``copy.deepcopy`` takes milliseconds, and two copies cannot be compared. An image is made in one
pass over the objects and restored in another. It is *canonical*: two states have one image if they differ only in

- the present time: points in time are stored relative to it. They are recognised by their size, as the clock of an
  explored Sentinel begins at ``START_TIME``, and no other number in a core is as large;
- what happened more than ``HORIZON`` milliseconds ago: that is longer than every period of an explored group;
- the number of changes so far: all durable generations are one, later ones are counted from it;
- the order of dictionaries whose keys are texts or numbers, which is the order of discovery;
- entries of the due queue that were superseded, and the order of those with the same deadline.

Nothing here knows the attributes of a class. The objects of a core without masters are *fixed*: restoring an image
overwrites their attributes. All other objects are created anew. Attributes that refer to fixed objects or to functions
connect the modules of the core and never change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final

from txsentinel.core.due_queue import DueQueue
from txsentinel.core.instances import Instance
from txsentinel.sim.explore.interning import Interner

START_TIME: Final = 2_000_000_000_000
"""The time at which every restored image continues; a multiple of every period, as probes are aligned to a grid."""

HORIZON: Final = 16_000
"""Ages above this are not distinguished."""

START_GENERATION: Final = 1 << 51
"""The durable generation of every restored image."""

_TIMES: Final = 1 << 40
_GENERATIONS: Final = 1 << 50
_RELATIVE_TIME: Final = 1 << 60
_RELATIVE_GENERATION: Final = 1 << 58
_ENCODED: Final = 1 << 57
"""Encoded times and generations are above this; all other integers are below ``_TIMES``."""

_REFERENCE: Final = 0
_VALUE: Final = 1
_METHOD: Final = 2
_TUPLE: Final = 3
_LIST: Final = 4
_DICT: Final = 5
_DEQUE: Final = 6
_SET: Final = 7
_CONSTANT: Final = 8
_NEW: Final = 9

Key = tuple[int, ...]
"""The numbers of the images of all objects, the fixed ones first."""

_PLAIN: Final = frozenset((type(None), bool, str, bytes, float))
_CONTAINERS: Final = frozenset((tuple, list, dict, deque, set))
_EMPTY: Final[dict[Any, Any]] = {
    tuple: (_TUPLE,),
    list: (_LIST,),
    dict: (_DICT,),
    deque: (_DEQUE,),
    set: (_SET, frozenset()),
}
_ORDERED: Final = frozenset((str, bytes, int, bool, tuple))


class NotImaged(Exception):
    """An object of a kind that an image cannot contain."""


def attribute_names(value: object) -> tuple[str, ...]:
    """Return the names of all attributes of an object, whether its class has slots, a dictionary or is compiled."""
    if is_dataclass(value):
        return tuple(row.name for row in fields(value))
    names: dict[str, None] = {}
    for base in reversed(type(value).__mro__):
        declared = base.__dict__.get("__mypyc_attrs__", base.__dict__.get("__slots__", ()))
        names.update(dict.fromkeys((declared,) if isinstance(declared, str) else declared))
    names.update(dict.fromkeys(getattr(value, "__dict__", ())))
    return tuple(name for name in names if not name.startswith("__") and hasattr(value, name))


def _first(row: tuple[Any, Any]) -> Any:
    return row[0]


class ImageStore:
    """
    The images of one process.

    :param root: the process, without a master; its images contain everything that it refers to.
    :param atoms: immutable classes without references to other objects; images contain their instances themselves.
    :param constants: classes of settings, whose instances never change.
    :param ignored: names of attributes of fixed objects on which nothing depends, such as statistics.
    :param disregarded: classes that decisions do not depend on, such as records for logs. Images do not contain the
        state of their instances, and those that are not fixed are restored as new ones.
    :param durable: returns the durable generation of the process.
    """

    def __init__(
        self,
        root: object,
        atoms: Iterable[type],
        constants: Iterable[type],
        ignored: Iterable[str],
        disregarded: Iterable[type],
        durable: Callable[[], int],
    ) -> None:
        self._ignored = frozenset(ignored)
        self._disregarded = frozenset(disregarded)
        self._atoms = {*_PLAIN, *atoms}
        self._constant_classes = frozenset(constants)
        self._constants: list[object] = []
        self._constant_numbers: dict[int, int] = {}
        self._durable = durable
        self._images: Interner[tuple[Any, ...]] = Interner()
        self._classes: Interner[type] = Interner()
        self._names: dict[type, tuple[str, ...]] = {}
        self._frozen: dict[type, bool] = {}
        self._queues: list[DueQueue] = []
        self._fixed: list[object] = []
        self._fixed_names: list[tuple[str, ...]] = []
        self._objects: list[object] = []
        self._index: dict[int, int] = {}
        self._now = START_TIME
        self._least = START_GENERATION
        self._find_fixed(root)

    @property
    def images(self) -> int:
        """The number of distinct images of single objects."""
        return len(self._images)

    def position(self, value: object) -> int:
        """Return the position of a fixed object in every key."""
        return next(at for at, each in enumerate(self._fixed) if each is value)

    def _find_fixed(self, root: object) -> None:
        found = [root]
        known = {id(root)}
        for each in found:
            for name in attribute_names(each):
                value = getattr(each, name)
                if id(value) not in known and self._is_object(value) and not self._is_frozen(type(value)):
                    known.add(id(value))
                    found.append(value)
        for each in found:
            if isinstance(each, DueQueue):
                self._queues.append(each)
                continue
            names = []
            for name in () if type(each) in self._disregarded else attribute_names(each):
                value = getattr(each, name)
                connects = id(value) in known or callable(value)
                if not connects and name not in self._ignored and type(value) not in self._constant_classes:
                    names.append(name)
            self._fixed.append(each)
            self._fixed_names.append(tuple(names))

    def _is_object(self, value: object) -> bool:
        """Whether ``value`` is an instance of a class of this project that may change."""
        kind = type(value)
        return (
            kind.__module__.startswith("txsentinel.")
            and kind not in self._atoms
            and kind not in self._constant_classes
            and not isinstance(value, (Enum, type))
            and not callable(value)
        )

    def _is_frozen(self, kind: type) -> bool:
        found = self._frozen.get(kind)
        if found is None:
            found = self._frozen[kind] = is_dataclass(kind) and kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        return found

    def _names_of(self, value: object) -> tuple[str, ...]:
        kind = type(value)
        names = self._names.get(kind)
        if names is None:
            names = self._names[kind] = attribute_names(value)
        return names

    # Capturing

    def capture(self, now: int) -> Key:
        """Return the image of the process at the time ``now``."""
        self._now, self._least = now, self._durable()
        objects = self._objects = list(self._fixed)
        index = self._index = {id(each): position for position, each in enumerate(objects)}
        number, atoms, fixed = self._images.number, self._atoms, len(objects)
        key: list[int] = []
        # The list grows while it is processed.
        for position, each in enumerate(objects):
            encoded: list[Any] = [self._classes.number(type(each))]
            for name in self._fixed_names[position] if position < fixed else self._names_of(each):
                value = getattr(each, name)
                kind = type(value)
                if kind in atoms:
                    encoded.append(value)
                elif kind is int:
                    encoded.append(self._number(value) if value >= _TIMES else value)
                else:
                    encoded.append(self._encode(value))
            key.append(number(tuple(encoded)))
        index.clear()
        return tuple(key)

    def _number(self, value: int) -> int:
        if value >= _GENERATIONS:
            return max(value - self._least, 0) + _RELATIVE_GENERATION
        relative_time = value - self._now
        return (relative_time if relative_time > -HORIZON else -HORIZON) + _RELATIVE_TIME

    def _encode(self, value: Any) -> Any:
        kind = type(value)
        if kind in self._atoms:
            return value
        if kind is int:
            return self._number(value) if value >= _TIMES else value
        if kind in _CONTAINERS:
            return self._encode_container(value, kind) if value else _EMPTY[kind]
        if isinstance(value, Enum):
            self._atoms.add(kind)
            return value
        if kind in self._constant_classes:
            return (_CONSTANT, self._constant(value))
        if kind in self._disregarded and id(value) not in self._index:
            return (_NEW, self._classes.number(kind))
        if kind in self._names or self._is_object(value):
            if self._is_frozen(kind):
                parts = [self._encode(getattr(value, name)) for name in self._names_of(value)]
                return (_VALUE, self._classes.number(kind), *parts)
            return (_REFERENCE, self._reference(value))
        owner = getattr(value, "__self__", None)
        if owner is None or not callable(value):
            raise NotImaged(f"{value!r} of {kind}")
        return (_METHOD, self._reference(owner), value.__name__)

    def _encode_container(self, value: Any, kind: type) -> Any:
        if kind is dict:
            rows = list(value.items())
            if all(type(name) in _ORDERED for name, _ in rows):
                rows.sort(key=_first)
            return (_DICT, *[(self._encode(key), self._encode(item)) for key, item in rows])
        if kind is set:
            return (_SET, frozenset(value))
        tag = _TUPLE if kind is tuple else _LIST if kind is list else _DEQUE
        return (tag, *[self._encode(each) for each in value])

    def _constant(self, value: object) -> int:
        found = self._constant_numbers.get(id(value))
        if found is None:
            found = self._constant_numbers[id(value)] = len(self._constants)
            self._constants.append(value)
        return found

    def _reference(self, value: object) -> int:
        found = self._index.get(id(value))
        if found is None:
            found = self._index[id(value)] = len(self._objects)
            self._objects.append(value)
        return found

    # Restoring

    def restore(self, key: Key) -> None:
        """Bring the process into the state of an image; its time is ``START_TIME``."""
        for queue in self._queues:
            queue.take_due(1 << 62)
        images, classes, fixed = self._images.values, self._classes.values, len(self._fixed)
        objects = self._objects = list(self._fixed)
        for number in key[fixed:]:
            kind: Any = classes[images[number][0]]
            objects.append(kind.__new__(kind))
        for position, number in enumerate(key):
            each, image = objects[position], images[number]
            names = self._fixed_names[position] if position < fixed else self._names[classes[image[0]]]
            for at, name in enumerate(names, 1):
                value = image[at]
                kind = type(value)
                if kind is tuple or (kind is int and value >= _ENCODED):
                    value = self._decode(value)
                setattr(each, name, value)
        for each in objects[fixed:]:
            if isinstance(each, Instance) and each.due is not None:
                due = each.due
                each.due = None
                for queue in self._queues:
                    queue.schedule(each, due)
        for queue in self._queues:
            queue.brought_forward = False

    def _decode(self, value: Any) -> Any:
        kind = type(value)
        if kind is int and value >= _ENCODED:
            relative_time = value - _RELATIVE_TIME
            if relative_time > -_ENCODED:
                return START_TIME + relative_time
            return START_GENERATION + value - _RELATIVE_GENERATION
        if kind is not tuple:
            return value
        tag, parts = value[0], value[1:]
        if tag == _REFERENCE:
            return self._objects[parts[0]]
        if tag == _DICT:
            return {self._decode(name): self._decode(item) for name, item in parts}
        if tag == _SET:
            return set(parts[0])
        if tag == _METHOD:
            return getattr(self._objects[parts[0]], parts[1])
        if tag == _CONSTANT:
            return self._constants[parts[0]]
        if tag == _NEW:
            return self._classes.values[parts[0]]()
        if tag == _VALUE:
            return self._classes.values[parts[0]](*[self._decode(each) for each in parts[1:]])
        decoded = [self._decode(each) for each in parts]
        if tag == _LIST:
            return decoded
        return tuple(decoded) if tag == _TUPLE else deque(decoded)
