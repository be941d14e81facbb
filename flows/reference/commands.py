"""The page of every command, argument and option, from the command tree itself."""

from __future__ import annotations

import getpass
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import typer.main

from flows.cli import app
from flows.reference.markdown import WRITTEN, code, plain, table

Command = Any
"""Typer brings its own copy of click, whose classes have no public home."""


def command_tree() -> Command:
    """Return the command ``fusion`` with everything below it."""
    return typer.main.get_command(app)


def leaves(command: Command, path: tuple[str, ...] = ("fusion",)) -> Iterator[tuple[str, Command]]:
    """Yield every command that does something, with its whole name, in the order of the help."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(path), command
        return
    for name, each in below.items():
        yield from leaves(each, (*path, name))


def commands_page() -> str:
    """Return the page in Markdown."""
    parts = [
        "# Commands",
        WRITTEN,
        "Exit status: 0 done; 2 an input must be changed, and the message says which; 75 "
        "something is away, the same call can succeed later; 130 stopped by Ctrl-C. What a "
        "command says about itself goes to standard error, JSON to standard output.",
        *(_command(name, each) for name, each in leaves(command_tree())),
    ]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Command) -> str:
    shown = [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
    arguments = [_usage(p) for p in shown if p.param_type_name == "argument"]
    parts = [f"## {name}", f"```text\n{' '.join([name, '[OPTIONS]', *arguments])}\n```"]
    parts.append(plain(inspect.cleandoc(command.help or "")))
    if shown:
        parts.append(table(["", "default", "meaning"], map(_parameter, shown)))
    return "\n\n".join(parts)


def _usage(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    name = name if argument.nargs == 1 or name.endswith("...") else f"{name}..."
    return name if argument.required else f"[{name}]"


def _parameter(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        name = code(_usage(parameter))
    else:
        takes = "" if parameter.is_flag else _takes(parameter)
        name = code(" / ".join([*parameter.opts, *parameter.secondary_opts]) + f" {takes}".rstrip())
    return name, _default(parameter), plain(parameter.help or "")


def _takes(option: Any) -> str:
    """Return what an option takes: its choices, or what kind of value."""
    if option.metavar:
        return option.metavar
    kinds = [option.type_descriptor.annotation]
    while (inner := [k for k in get_args(kinds[0]) if k is not NoneType]) and not _is_choice(kinds):
        kinds = inner
    if _is_choice(kinds):
        return "|".join(get_args(kinds[0]))
    return {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(kinds[0], "TEXT")


def _is_choice(kinds: list[Any]) -> bool:
    return get_origin(kinds[0]) is Literal


def _default(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        return "required"
    if default is None or default is False or callable(default) or default == ():
        return ""
    if default == getpass.getuser() and parameter.name == "who":
        return "who you are on this machine"
    return code(str(getattr(default, "value", default)))
