"""What invoke's parser lacks: exit code 2 for every wrong command line, and a positional argument that may be left out."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from invoke import Collection
from invoke.exceptions import ParseError
from invoke.parser.parser import ParseMachine, Parser

from dws_on_csm.display import console

_handle, _complete_flag, _complete_context = (
    ParseMachine.handle,
    ParseMachine.complete_flag,
    ParseMachine.complete_context,
)
_parse_argv = Parser.parse_argv


def install() -> None:
    """Change the parser, for the commands and options that this process reads from now on.

    - Every wrong command line prints what is wrong and ends with exit code 2 (invoke's own parser: 1).
    - An empty word is wrong: `--limit "$HOSTS"` with an unset variable must not mean all hosts.
    - Only one command runs at a time: `undeploy plan` would undeploy.
    - `rollback [RUN]`: a positional argument with the default "" may be left out.
    """
    _open_closed_streams()
    ParseMachine.handle, ParseMachine.complete_flag, ParseMachine.complete_context = (
        _handled,
        _completed_flag,
        _completed_context,
    )
    Parser.parse_argv = _parsed


def _open_closed_streams() -> None:
    """Open /dev/null in place of a standard stream that was closed (`>&-`): a connection or a file would get its number, and then
    what is written to the stream."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  # open as long as the process
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115  # the same
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115  # the same


EXIT_CODES = """Exit codes: 0 all as it should be; 1 failed, or something is wrong; 2 wrong command line or site file;
3 refused; 4 a plan has changes; 5 installed, but not verified. See docs/exit-codes.md."""


def add_exit_codes(commands: Collection) -> None:
    """Add the exit codes to the help of these commands."""
    for command in commands.tasks.values():
        command.__doc__ = f"{inspect.cleandoc(command.__doc__ or '')}\n\n{EXIT_CODES}"


def leave(text: object) -> NoReturn:
    """Print what is wrong with the command line or the site file, and exit with code 2."""
    from dws_on_csm.runner.exit_codes import USAGE

    console.note(text)
    sys.exit(USAGE)


def program_name() -> str:
    """The program that the user typed: invoke or fab."""
    return "fab" if Path(sys.argv[0]).name == "fab" else "invoke"


def _parsed(parser: Any, argv: list[str]) -> Any:
    words = argv[: argv.index("--")] if "--" in argv else argv
    for before, word in zip(["", *words], words, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            leave(f"{(word or before).rstrip('=')} has an empty value. Leave it out, or give it a value.")
    try:
        result = _parse_argv(parser, argv)
    except ParseError as error:  # what the functions below do not know
        leave(f"{error}. Run `{program_name()} --list` for the commands.")
    names = [context.name for context in result[1:]]
    if len(names) > 1:
        leave(
            f"Run one command at a time, not {' and '.join(names)}. `{program_name()} {names[0]} --help` shows its options."
        )
    return result


def _handled(machine: Any, token: str) -> None:
    """A word that is neither a command, nor an option or its value, is the positional argument that may be left out; or wrong."""
    context = machine.context
    options = {**context.flags, **context.inverse_flags} if context else {}
    known = {
        *machine.contexts,
        *machine.contexts.aliases,
        *options,
        *(machine.initial.flags if machine.initial else ()),
    }
    if token in ("--help", "-h") and context and context is not machine.initial:
        machine.initial.flags["--help"].value = context.name
        for argument in context.missing_positional_args:
            argument.value = ""
        return
    if machine.ignore_unknown or token in known or machine.waiting_for_flag_value:
        _handle(machine, token)
        return
    free = [argument for argument in context.positional_args if argument.value == ""] if context else []
    if context and context.missing_positional_args and not token.startswith("-"):
        _handle(machine, token)
    elif free and not token.startswith("-"):
        free[0].value = token
    elif context is machine.initial:
        _unknown(token, "a command", machine.contexts, f"{program_name()} --list", "the commands")
    else:
        noun, name = ("an option" if token.startswith("-") else "an argument"), f"{program_name()} {context.name}"
        similar = options if token.startswith("-") else ()
        _unknown(token, f"{noun} of {name}", similar, f"{name} --help", "its options")


def _unknown(word: str, kind: str, names: Iterable[str], command: str, shows: str) -> NoReturn:
    from dws_on_csm.config.nodeset import did_you_mean

    leave(f"{word} is not {kind}{did_you_mean(word, names) or '.'} Run `{command}` for {shows}.")


def _completed_flag(machine: Any) -> None:
    flag = machine.flag
    if flag and flag.takes_value and flag.raw_value is None and not flag.optional:
        leave(
            f"--{flag.name.replace('_', '-')} needs a value. Run `{program_name()} {machine.context.name} --help` for its options."
        )
    _complete_flag(machine)


def _completed_context(machine: Any) -> None:
    context = machine.context
    if context and (missing := context.missing_positional_args):
        words = " ".join(argument.name.upper() for argument in missing)
        name = f"{program_name()} {context.name}"
        leave(f"{name} needs {words}. Run `{name} --help` for its options.")
    _complete_context(machine)
