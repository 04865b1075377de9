"""What the argument parser says, in one sentence: the option, what was expected, what was given, what to do."""

import re
from collections.abc import Sequence

_SEE_HELP = "see maskrobust COMMAND --help"
_KEY = re.compile(r'^( *)(?:- )?Parser key "([\w.]+)":', re.MULTILINE)
_TYPE = re.compile(r"<class '(?P<name>[\w.]+)'>|Literal\[(?P<choices>[^\]]*)\]|(?P<container>\w+)\[")
_GIVEN = re.compile(r"(?:Got value|Given value): (.*)")
_NESTED = re.compile(r"NestedArg\(key='(.*?)', val='?(.*?)'?\)$")
_IN_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "dict": "a mapping such as {a: 1}",
    "list": "a list such as [a, b]",
    "tuple": "a list such as [a, b]",
    "Iterable": "a list such as [a, b]",
    "NoneType": "null",
}


def in_one_sentence(message: str, data_modules: Sequence[str]) -> str:
    """Say what is wrong with arguments.

    Args:
        message: of the argument parser, with its lines, whose indentation says what belongs to what.
        data_modules: names that `data` may have.

    Returns:
        One line; the message itself where it is of no known form.
    """
    key, problem = _innermost(message)
    on_one_line = " ".join(message.split())
    missing = re.search(r"the following arguments are required: (.+)", problem)
    if missing:
        return _about_missing(key, missing[1].split(", "))
    without_value = re.match(r"argument (\S+): expected (?:at least )?one argument", message)
    if without_value:
        return f"{without_value[1]} needs a value, but has none; give one."
    if re.search(r"^unrecognized arguments|does not accept option|^Option '.*' is not accepted", message):
        return f"{on_one_line}; maskrobust COMMAND --help lists the options."
    if not key:
        return on_one_line
    not_loaded = re.match(r'Parser key "([\w.]+)":\s+Unable to load config "?\'?(.*?)\'?"?$', message, re.MULTILINE)
    if not_loaded:
        return f"{not_loaded[1]} must hold options, or name a YAML that does, got '{not_loaded[2]}'; change it."
    return _about_class(key, problem, data_modules) or _about_type(key, problem, data_modules) or on_one_line


def _innermost(message: str) -> tuple[str, str]:
    """The full name of the argument that a message is about in the end, and what is said of that."""
    keys = list(_KEY.finditer(message))
    if not keys:
        return "", message
    last = max(keys, key=lambda match: len(match[1]))
    path: list[str] = []
    depth = len(last[1]) + 1
    for match in reversed(keys[: keys.index(last) + 1]):
        if len(match[1]) < depth:
            path.insert(0, match[2])
            depth = len(match[1])
    # What is said of it is indented further than its name.
    below = re.match(rf"(?:\s*\n)?((?: {{{len(last[1]) + 1},}}.*(?:\n|$)|\s*\n)*)", message[last.end() :])
    inner = below[1] if below and len(keys) > 1 else message[last.end() :]
    return ".".join(path), inner


def _about_missing(key: str, names: Sequence[str]) -> str:
    """Options that must be given; the parser names those of `fit` after the command."""
    options = [re.sub(r"^(fit|validate|test)\.", "", name) for name in names]
    full = [f"{key}.{option}" if key else option for option in options]
    return f"{_listed([f'--{option}' for option in full], 'and')} must be given, but {_is(full)} not; {_SEE_HELP}."


def _about_class(key: str, problem: str, data_modules: Sequence[str]) -> str | None:
    """What is wrong with the name of a class, or with the name of one of its arguments."""
    unknown_option = re.search(r"class_path '([\w.]+)':\s+Option '(.+?)' is not accepted", problem)
    if unknown_option:
        path, option = unknown_option.groups()
        which = "" if f"<class '{path}'>" in problem else f" {path}"  # one of several classes must be named
        return (
            f"{key} is {_a(path)}, which has no option '{option}'; maskrobust COMMAND --{key}.help{which} lists them."
        )
    bare = re.search(r"Expected a dot import path string: (.+)", problem)
    if bare and key == "data":
        return _about_data(bare[1], data_modules)
    if bare and bare[1] != _given(problem):
        return f"{key} must name classes that are known, or by import path, got '{bare[1]}'; correct it."
    no_class = re.search(r"Not a valid subclass of (\w+)(?:\. Got value: (.*))?", problem)
    if no_class and no_class[2]:
        return f"{key} must be {_a(no_class[1])} with its options, got {_quoted(no_class[2])}; {_SEE_HELP}."
    another = re.search(r"Import path .*does not correspond to a subclass of (\w+)", problem)
    if another:
        given = _quoted(_given(problem))
        return f"{key} must be the import path of a class that is {_a(another[1])}, got {given}; change it."
    return _about_import(key, problem)


def _about_data(given: str, data_modules: Sequence[str]) -> str:
    known, value = ", ".join(data_modules), _quoted(given)
    return f"data must be one of {known}, or the import path of a data module, got {value}; choose one of these."


def _about_import(key: str, problem: str) -> str | None:
    """Why a class cannot be had that is named by its import path."""
    named = re.search(r"class_path '([\w.]+)':\s+(\S.*)", problem)
    if not named:
        return None
    path, reason = named.groups()
    if not re.match(r"No module named|module .* has no attribute|cannot import", reason):
        return f"{key} names the class '{path}', which cannot be used ({reason}); change it."
    return (
        f"{key} names the class '{path}', which cannot be imported ({reason}); correct it, or set PYTHONPATH to the "
        "folder that its module is in."
    )


def _about_type(key: str, problem: str, data_modules: Sequence[str]) -> str | None:
    """What type or choice was expected of a value."""
    subtypes = re.search(r"Subtypes: (.*)", problem)
    expected = subtypes or re.search(r"Expected an? (.*?)\. Got value", problem)
    if not expected:
        return None
    given = _given(problem)
    if key == "data":
        return _about_data(given, data_modules)
    choices: list[str] = []
    types: list[str] = []
    for found in _TYPE.finditer(expected[1]):
        if found["choices"] is not None:
            choices += [choice.strip("'") for choice in found["choices"].split(", ")]
        elif found["container"] != "Union":  # whose types follow
            types += _type_in_words(found["name"] or found["container"]).split(" or ")
    named = [f"one of {', '.join(dict.fromkeys(choices))}"] if choices else []
    other = re.sub(r"^tuple with (\d+) elements", r"list of \1 elements", expected[1])
    words = [*named, *dict.fromkeys(types)] or [_a(other)]
    return f"{key} must be {_listed(words, 'or')}, got {_quoted(given)}; change it, or {_SEE_HELP}."


def _type_in_words(name: str) -> str:
    name = name.rpartition(".")[2]
    return _IN_WORDS.get(name) or _a(name)


def _given(problem: str) -> str:
    """What was given: a value, or something below the argument as {name: value}."""
    *_, value = _GIVEN.findall(problem) or [""]
    nested = _NESTED.match(value)
    if nested and nested[1] not in ("class_path", "init_args"):
        return f"{{{nested[1]}: {nested[2]}}}"
    return nested[2] if nested else value


def _quoted(value: str) -> str:
    if value == "None":  # what the parser calls null
        return "null"
    return value if value[:1] in ("[", "{", "(") else f"'{value}'"


def _listed(words: Sequence[str], conjunction: str) -> str:
    *most, last = words
    return f"{', '.join(most)} {conjunction} {last}" if most else last


def _is(words: Sequence[str]) -> str:
    return "is" if len(words) == 1 else "are"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"
