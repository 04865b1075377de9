"""The registry that mask families, fills and objectives share: functions by name, also from a user's own file.

A function of a `FunctionRegistry` says by its parameters what it asks for: inputs, such as `keys` or `object_mask`, are
filled in by name; every other parameter is an option, which a configuration file can set.
"""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from math import isfinite
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from torch import Tensor

from maskrobust.errors import InputError, did_you_mean, library_needed

Choice = str | Mapping[str, float | Mapping[str, Any]]
"""A name; or several names, each with its weight, or with its options, among them `weight` (1 where it is missing)."""

Check = Callable[..., None]
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Tensor])


class Named(Protocol):
    """What has a name, and is made by a function."""

    @property
    def name(self) -> str:
        """Under which it is registered."""

    @property
    def function(self) -> Callable[..., Any]:
        """What does the work; its module tells entries of the same name apart."""


AnyEntry = TypeVar("AnyEntry", bound=Named)


@dataclass(frozen=True)
class Entry:
    """A registered function.

    Attributes:
        name: under which it is registered.
        function: returns a tensor; its parameters are `inputs` and `options`.
        inputs: parameters that are filled in for it.
        options: the other parameters, with their defaults; those without one are always filled in, too.
        check: raises InputError for options that are out of their ranges; its parameters name the options it looks at.
        looks_into_hole: for a fill, whether the result depends on what was hidden.
        on_cpu: whether a CPU computes it, whatever device the images are on; a training leaves it to loader processes.
    """

    name: str
    function: Callable[..., Tensor]
    inputs: frozenset[str]
    options: Mapping[str, Any]
    check: Check | None = None
    looks_into_hole: bool = False
    on_cpu: bool = False

    def call(self, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Tensor:
        """The function's result for those of `inputs` that it asks for."""
        return self.function(**{name: inputs[name] for name in self.inputs}, **options)


class Chosen(NamedTuple):
    """One of the names of a `Choice`, looked up.

    Attributes:
        name: the name as it was given.
        entry: what it stands for.
        weight: at least 0.
        options: checked.
    """

    name: str
    entry: Entry
    weight: float
    options: Mapping[str, Any]


class Registry(dict[str, AnyEntry], Generic[AnyEntry]):
    """Entries by name, in the order in which they were registered.

    Args:
        kind: what they are, for messages.
        decorator: the name of the function that registers them, for messages.
    """

    def __init__(self, kind: str, decorator: str) -> None:
        super().__init__()
        self.kind, self.decorator = kind, decorator

    def enter(self, entry: AnyEntry) -> None:
        """Register an entry; the same function may be registered again, as when its module is reloaded.

        Raises:
            InputError: its name is no Python identifier, or that of another function.
        """
        name, function = entry.name, entry.function
        if not name.isidentifier():
            raise InputError(f"the name of a {self.kind} must be a Python identifier, got '{name}'; rename it.")
        if name in self and address(self[name].function) != address(function):
            raise InputError(
                f"a {self.kind} must have a name of its own, but '{name}' is registered by "
                f"{'.'.join(address(self[name].function))} already; choose another name."
            )
        self[name] = entry

    def knows(self, name: str) -> bool:
        """Whether `name` is registered; a dotted one, whether it is by the module in front of the dot."""
        module, _, own_name = name.rpartition(".")
        entry = self.get(own_name)
        return entry is not None and (not module or f"{entry.function.__module__}.".startswith(f"{module}."))

    def find(self, name: str, option: str, besides: Collection[str] = ()) -> AnyEntry:
        """The entry under a name that the user gave; a dotted one is registered by a module, which is imported.

        Args:
            name: such as "stripes", or "my_masks.stripes".
            option: the option in which it was given, for messages.
            besides: other names that the option takes, for messages.

        Raises:
            InputError: there is no such entry, or no such module.
        """
        module, _, own_name = name.rpartition(".")
        if module and not self.knows(name):
            import_named(module, name, option)
        if not self.knows(name):
            if module:
                raise InputError(
                    f"{option} must name a registered {self.kind}, but module '{module}' registers no '{own_name}'"
                    f"{did_you_mean(own_name, self)}; decorate its function with @{self.decorator}('{own_name}')."
                )
            raise InputError(
                f"{option} must be one of {', '.join([*self, *besides])}, or named after its own module as in "
                f"my_module.my_name, got '{name}'{did_you_mean(name, [*self, *besides])}; choose one of these."
            )
        return self[own_name]


AnyFunctionEntry = TypeVar("AnyFunctionEntry", bound=Entry)


class FunctionRegistry(Registry[AnyFunctionEntry]):
    """A registry of functions by name, with the arguments that each asks for.

    Args:
        kind: what they are, for messages.
        decorator: the name of the function that registers them, for messages.
        entry: what is known of each.
        inputs: parameters that are filled in by name.
        settings: options that are filled in by name where a choice does not give them.
    """

    def __init__(
        self,
        kind: str,
        decorator: str,
        entry: type[AnyFunctionEntry],
        inputs: Collection[str],
        settings: Collection[str] = (),
    ) -> None:
        super().__init__(kind, decorator)
        self.entry, self.inputs, self.settings = entry, tuple(inputs), tuple(settings)

    def register(self, name: str, check: Check | None = None, **about: bool) -> Callable[[AnyFunction], AnyFunction]:
        """A decorator that registers a function and returns it as it is.

        Args:
            name: a Python identifier. The same function may be registered again, as when its module is reloaded.
            check: see `Entry`.
            about: further attributes of the entry.

        Raises:
            InputError: another function has the name, or a parameter can neither be filled in nor left out.
        """

        def add(function: AnyFunction) -> AnyFunction:
            parameters = inspect.signature(function).parameters
            if any(each.kind not in _BY_NAME for each in parameters.values()):
                raise InputError(
                    f"every parameter of {self.kind} '{name}' must be passed by name, got "
                    f"{inspect.signature(function)}; name them one by one."
                )
            inputs = frozenset(parameters).intersection(self.inputs)
            options = {each: parameters[each].default for each in parameters if each not in inputs}
            for option, default in options.items():
                self._check_option(name, option, default)
            self.enter(self.entry(name, function, inputs, options, check, **about))
            return function

        return add

    def read(self, choice: Choice, option: str, besides: Mapping[str, Entry] | None = None) -> list[Chosen]:
        """Look a choice up, and check weights and options.

        Args:
            choice: a choice of names with weights and options.
            option: the option in which it was given, for messages.
            besides: further entries that the option takes.

        Raises:
            InputError: a name or an option is unknown, a value is out of its range, or no weight is above 0.
        """
        chosen, besides = [], besides or {}
        for name, (weight, options) in read_choice(choice, option).items():
            entry = besides.get(name) or self.find(name, option, besides)
            chosen.append(Chosen(name, entry, weight, _checked_options(entry, options, f"{option} '{name}'")))
        return chosen

    def _check_option(self, name: str, option: str, default: Any) -> None:
        if option == "weight" or (default is inspect.Parameter.empty and option not in self.settings):
            filled_in = ", ".join([*self.inputs, *self.settings])
            raise InputError(
                f"every parameter of {self.kind} '{name}' must be one of {filled_in}, or an option with a default (not "
                f"called weight), got '{option}'; change it."
            )


def read_choice(choice: Choice, option: str) -> dict[str, tuple[float, dict[str, Any]]]:
    """The names of a choice, each with its weight and its options; neither names nor options are looked up.

    Args:
        choice: a name, or names with weights and options.
        option: the option in which it was given, for messages.

    Raises:
        InputError: a weight is negative or not finite, or none is above 0.
    """
    given = {choice: 1.0} if isinstance(choice, str) else choice
    read: dict[str, tuple[float, dict[str, Any]]] = {}
    for name, value in given.items():
        options = dict(value) if isinstance(value, Mapping) else {"weight": value}
        weight = options.pop("weight", 1.0)
        if not (isinstance(weight, int | float) and isfinite(weight) and weight >= 0):
            raise InputError(f"the weight of {option} '{name}' must be at least 0, got {weight}; give such a number.")
        read[name] = float(weight), options
    if not any(weight for weight, _ in read.values()):
        raise InputError(f"{option} must have a weight above 0, got {dict(given)}; raise one of the weights.")
    return read


def _checked_options(entry: Entry, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options with values of the types that the function's annotations say, lists made tuples where these do."""
    unknown = [name for name in options if name not in entry.options]
    if unknown:
        expected = f"the options {', '.join(entry.options)}" if entry.options else "no options"
        raise InputError(f"{where} takes {expected}, got '{unknown[0]}'; correct it.")
    if not options:
        return {}
    hints = typing.get_type_hints(entry.function)
    checked = {name: _of_type(value, hints.get(name, Any), f"{name} of {where}") for name, value in options.items()}
    if entry.check is not None:
        values = {**entry.options, **checked}
        entry.check(**{name: values[name] for name in inspect.signature(entry.check).parameters})
    return checked


def _of_type(value: Any, hint: Any, where: str) -> Any:
    with library_needed():  # only where options are given: the import takes a while
        from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        expected = inspect.formatannotation(hint)
        raise InputError(f"{where} must be of type {expected}, got {value!r}; change it.") from error


@cache
def import_modules(package: str) -> None:
    """Import every file of a folder, once: those of measures and masking rules register what they define."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def import_named(module: str, name: str, option: str) -> None:
    """Import a module of the user's own, which registers a name.

    Args:
        module: import path of the module, given by the user, never by a file.
        name: whose module it is, for messages.
        option: the option in which that was given, for messages.

    Raises:
        InputError: it cannot be imported.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{option} names '{name}', whose module cannot be imported ({error}); correct it, or set PYTHONPATH to the "
            "folder that the module is in."
        ) from error


def address(function: Callable[..., Any]) -> tuple[str, str]:
    """Where a function is defined: its module, and its name there."""
    return function.__module__, function.__qualname__
