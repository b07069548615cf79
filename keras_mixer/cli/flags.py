"""Settings as frozen dataclasses, and a command line that is read once into one of them.

The fields of a dataclass are the one source of its flags: name, type, default, choices, bounds, help, and by the class
that defines a field its group in --help. `finetune.run(finetune.Settings(dataset="photos"))` is the same call from
Python. This module imports no framework, so that commands without one can use it.
"""

import dataclasses
import difflib
import functools
import inspect
import os
import pathlib
import re
import shlex
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, Self

import absl.logging  # noqa: F401 - defines --verbosity
from absl import flags

from keras_mixer.errors import InputError

WIDTH = 100  # columns of --help
END_OF_HELP = ("--helpfull says what each of them is.", "With --verbosity=1 bad input shows its traceback, too.")
C = typing.TypeVar("C")


def setting(
    default: Any = None,
    help: str = "",
    *,
    usual: Any = None,
    choices: Sequence[Any] = (),
    least: float | None = None,
    distinct: bool = False,
    common: bool = False,
    positional: bool = False,
) -> Any:
    """Return a field of a dataclass of settings.

    Args:
        default: what stands where nothing is given.
        help: what the flag is about.
        usual: in place of a default: what `Settings.filled` gives the field, unless it is told something better.
        choices: the values that are allowed.
        least: the smallest number that is allowed.
        distinct: of a field of several values, whether there must be some and each once.
        common: whether --help tells of it among the flags that most people need.
        positional: whether it takes the arguments that are no flags.
    """
    about = dict(help=help, usual=usual, choices=tuple(choices), least=least)
    about |= dict(distinct=distinct, common=common, positional=positional)
    return dataclasses.field(default=default, metadata=about)


def changed(of: type, name: str, default: Any = None, **about: Any) -> Any:
    """Return the field of another dataclass with another default, or other words of `setting`."""
    field = next(field for field in dataclasses.fields(of) if field.name == name)
    return dataclasses.field(default=default, metadata={**field.metadata, **about})


@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting, changed))
def settings_class(cls: type[C]) -> type[C]:
    """Make a class a frozen dataclass, whose fields are all given by name."""
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What every dataclass of settings can do; it checks its values when it is made.

    Raises:
        InputError: for a value of another type, outside its bounds, or that is no choice.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None:
                object.__setattr__(self, field.name, _checked(field, _kind(type(self), field.name), value))

    def filled(self, **chosen: Any) -> Self:
        """Return the settings with a value where none was given: that of `chosen`, else the field's usual one."""
        usual = {f.name: f.metadata["usual"] for f in dataclasses.fields(self) if f.metadata["usual"] is not None}
        chosen = usual | {name: value for name, value in chosen.items() if value is not None}
        return self.with_values(**{n: v for n, v in chosen.items() if getattr(self, n) is None})

    def with_values(self, **values: Any) -> Self:
        """Return the settings with other values."""
        return dataclasses.replace(self, **values)

    def as_json(self, without: Sequence[str] | set[str] = ()) -> dict[str, Any]:
        """Return name -> value as run.json and result.json have it: of several values their texts."""
        fields = [f for f in dataclasses.fields(self) if f.name not in without and not f.metadata["positional"]]
        values = {f.name: getattr(self, f.name) for f in sorted(fields, key=lambda f: f.name)}
        return {
            name: [_text(v) for v in value] if isinstance(value, tuple) else value for name, value in values.items()
        }

    def arguments(self) -> list[str]:
        """Return the flags that give these settings to another process; what has its default is left out."""
        given = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        return [_argument(field.name, getattr(self, field.name)) for field in given]


S = typing.TypeVar("S", bound=Settings)


def read(settings: type[S], argv: Sequence[str], doc: str) -> S:
    """Return the settings that a command line gives; --help and --helpfull print and exit.

    Args:
        settings: the dataclass.
        argv: the program's name, then its arguments.
        doc: what --help says first.

    Raises:
        ValueError: for a wrong flag, in one sentence; for an argument that is no flag, unless a field takes those.
    """
    if {"-h", "--help", "--helpfull"} & set(argv):
        print(help_text(settings, doc, full="--helpfull" in argv), flush=True)
        sys.exit(0)
    values = flags.FlagValues()
    values["verbosity"] = flags.FLAGS["verbosity"]
    positional = [f.name for f in dataclasses.fields(settings) if f.metadata["positional"]]
    fields = [f for f in dataclasses.fields(settings) if f.name not in positional]
    for field in fields:
        _define(field, _kind(settings, field.name), values)
    try:
        rest = values(list(argv))[1:]
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, [field.name for field in fields], n=1)
        hint = f"; did you mean --{near[0]}?" if near else "."
        raise ValueError(f"--{error.flagname} is not a flag of this recipe{hint} See --help.") from None
    except flags.IllegalFlagValueError as error:  # of a flag that is true or false, since the others are texts
        name, _, value = re.sub(r"^flag --|: \(.Non-boolean.*", "", str(error)).partition("=")
        raise ValueError(f"{name}: must be true or false, got {value!r}. See --help.") from None
    except flags.Error as error:
        raise ValueError(f"{error}. See --help.") from None
    flags.FLAGS.mark_as_parsed()  # absl's own, of which nobody here reads any
    if rest and not positional:
        raise ValueError(f"{rest[0]!r} is not a flag; flags are written --name=value. See --help.")
    given = {field.name: _read(field, _kind(settings, field.name), values[field.name].value) for field in fields}
    return settings(**given, **{name: tuple(rest) for name in positional})


def help_text(settings: type[Settings], doc: str, full: bool = False) -> str:
    """Return what --help prints: of the flags that most people need what they are, of others the names by group."""
    groups = _groups(settings)
    common = [f for fields in groups.values() for f in fields if f.metadata["common"] and not full]
    parts = [doc.strip(), "\nFlags, --name=value:" * bool(common), *(_about(field) for field in common)]
    for title, fields in groups.items():
        others = [field for field in fields if field not in common and not field.metadata["positional"]]
        if full:
            parts += [f"\n{title}:", *(_about(field) for field in others)]
        elif others:
            names = " ".join(f"--{field.name}" for field in others)
            parts.append(textwrap.fill(f"{title}: {names}", WIDTH, subsequent_indent="    ", break_on_hyphens=False))
    return "\n".join([*parts, "\n" * full + END_OF_HELP[full]]).strip()


def command(name: str) -> str:
    """Return how to call another command from here: as a script where there is one, else the installed command."""
    script = pathlib.Path("recipes", f"{name}.py")
    return f"python {script}" if script.is_file() else f"keras-mixer {name}"


def doc_of(run: Callable[..., Any]) -> str:
    """Return the docstring of the module of a function."""
    return inspect.getdoc(inspect.getmodule(run)) or ""


@functools.cache
def _hints(settings: type) -> dict[str, Any]:
    return typing.get_type_hints(settings)


def _kind(settings: type, name: str) -> tuple[type, bool]:
    """Return the type of a field's values, and whether it holds several: (int, True) of tuple[int, ...] | None."""
    hint = _hints(settings)[name]
    if isinstance(hint, types.UnionType):  # with None
        hint = typing.get_args(hint)[0]
    return (typing.get_args(hint)[0], True) if typing.get_origin(hint) is tuple else (hint, False)


def _checked(field: Any, kind: tuple[type, bool], value: Any) -> Any:
    """Return a value as its field's type, or refuse it."""
    one, several = kind
    if not several:
        value = _converted(field, one, value)
        choices, least = field.metadata["choices"], field.metadata["least"]
        if choices and value not in choices:
            if len(choices) > 6:
                near = difflib.get_close_matches(value.lower(), choices, n=2)
                hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(choices)}."
                raise ValueError(f"{field.name}: {value!r} is unknown; {hint}")
            raise ValueError(f"{field.name}: must be {listed(choices)}, got {value!r}.")
        if least is not None and not value >= least:
            rule = "a positive number" if least == 1 else f"at least {least:g}"
            raise ValueError(f"{field.name}: must be {rule}, got {value!r}.")
        return value
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(field.name, f"must be several values, got {value!r}", "give a tuple")
    values = tuple(_converted(field, one, part) for part in value)
    choices, least = field.metadata["choices"], field.metadata["least"]
    wrong = any((choices and v not in choices) or (least is not None and v < least) for v in values)
    if wrong or (field.metadata["distinct"] and len(set(values)) != max(len(values), 1)):
        raise _unlisted(field, one, list(map(_text, values)))
    return values


def _unlisted(field: Any, kind: type, texts: Sequence[str]) -> ValueError:
    """Return the error for values that are not those that a field may list."""
    choices, least = field.metadata["choices"], field.metadata["least"]
    rule = f"of {', '.join(map(_text, choices))}" if choices else {int: "whole numbers", float: "numbers"}.get(kind, "")
    rule = f"{'different ' * field.metadata['distinct']}{rule}{f' of at least {least:g}' if least is not None else ''}"
    example = field.default if field.default is not None else field.metadata["usual"]
    way_out = f"; write --{field.name}={','.join(map(_text, example))}" if example else ""
    return ValueError(f"{field.name}: must be {rule}, separated by commas, got {','.join(texts)!r}{way_out}.")


def _converted(field: Any, kind: type, value: Any) -> Any:
    """Return one value as a type: a path as a text, a whole number as a number; refuse others."""
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        names = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
        raise InputError(field.name, f"must be {names[kind]}, got {value!r}", "see --help of the command")
    return value


def listed(names: Sequence[str]) -> str:
    """Return "a, b or c"."""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def _define(field: Any, kind: tuple[type, bool], values: Any) -> None:
    """Define a flag. Numbers are read as texts, so that a wrong one is refused in our words."""
    one, several = kind
    default = list(map(_text, field.default)) if isinstance(field.default, tuple) else field.default
    define: Any = flags.DEFINE_list if several else flags.DEFINE_boolean if one is bool else flags.DEFINE_string
    define(field.name, default if several or default is None or one is bool else _text(default), "", flag_values=values)


def _read(field: Any, kind: tuple[type, bool], value: Any) -> Any:
    """Return what a flag gives as its field's type: of a list, what stands between commas."""
    one, several = kind
    try:
        return value if value is None else tuple(one(v.strip()) for v in value) if several else one(value)
    except ValueError:
        if several:
            raise _unlisted(field, one, value) from None
        rule = "a whole number" if one is int else "a number"
        raise ValueError(f"{field.name}: must be {rule}, got {value!r}. See --help.") from None


def _text(value: Any) -> str:
    """Return a value as a text that reads back as the same one."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _argument(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no'}{name}"
    return f"--{name}={','.join(map(_text, value)) if isinstance(value, tuple) else value}"


def _groups(settings: type[Settings]) -> dict[str, list[Any]]:
    """Return title -> fields, by the class that first defines a field; its docstring's first words are the title."""
    owners = {name: c for c in settings.__mro__ for name in inspect.get_annotations(c)}
    groups: dict[str, list[Any]] = {}
    for owner in (*settings.__mro__[1:], settings):
        fields = [field for field in dataclasses.fields(settings) if owners[field.name] is owner]
        if fields:
            title = "Of this command" if owner is settings else (owner.__doc__ or "").split(".")[0].split(":")[0]
            groups.setdefault(title, []).extend(fields)
    return groups


def _about(field: Any) -> str:
    """Return the lines of --help about one field."""
    default = field.default if field.default is not None else field.metadata["usual"]
    if isinstance(default, tuple):
        default = ",".join(map(_text, default))
    name = f"--[no]{field.name}" if isinstance(default, bool) else f"--{field.name}"
    text = field.metadata["help"]
    known = default in (None, "", False, True) or re.search(r"\bdefault\b", text, re.IGNORECASE)
    least = field.metadata["least"]
    text += "" if least is None else f" At least {least:g}."
    text += "" if known else f" Default {shlex.quote(str(default))}."
    return textwrap.fill(f"  {name:24} {text}", WIDTH, subsequent_indent=" " * 27, break_on_hyphens=False)
