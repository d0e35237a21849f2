"""What invoke's parser lacks: exit code 2 for every wrong command line, words that users know from other tools, and a positional
argument that may be left out."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from invoke import Collection
from invoke.exceptions import ParseError
from invoke.parser.parser import ParseMachine, Parser

from dws_on_csm.display import console
from dws_on_csm.model.this_program import typed_name, version

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
    - An option of invoke itself that would have no effect is wrong: `--dry install` would install.
    - `--version` prints this tool's version and does nothing else, wherever it stands.
    - Words of other tools work where they can only mean one thing (`-y`, `--check`), and are answered with ours elsewhere.
    - `rollback [RUN]`: a positional argument with the default "" may be left out.
    """
    _open_closed_streams()
    keep_bytecode()
    ParseMachine.handle, ParseMachine.complete_flag, ParseMachine.complete_context = (
        _handled,
        _completed_flag,
        _completed_context,
    )
    Parser.parse_argv = _parsed
    for arguments in _parsed_before():
        _obey_core_options(arguments)


def keep_bytecode() -> None:
    """Let Python keep the bytecode of what is imported from now on, unless its user says otherwise. invoke and Fabric turn that off
    once they have read their own options: each start would compile our modules again, which takes a quarter of its CPU time."""
    if not sys.flags.dont_write_bytecode:
        sys.dont_write_bytecode = False


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
3 refused; 4 a plan has changes; 5 installed, but not verified (doctor: not everything could be checked);
6 works, with less than it should have. See docs/exit-codes.md."""


def add_exit_codes(commands: Collection) -> None:
    """Add the exit codes to the help of these commands."""
    for command in commands.tasks.values():
        command.__doc__ = f"{inspect.cleandoc(command.__doc__ or '')}\n\n{EXIT_CODES}"


def exit_usage(text: object) -> NoReturn:
    """Print what is wrong with the command line or the site file, and exit with code 2."""
    from dws_on_csm.model.exit_codes import USAGE

    console.note(text)
    sys.exit(USAGE)


# --- the options of invoke and Fabric themselves

_NO_EFFECT = {
    "dry": "To change nothing, run `{0}`",
    "echo": "Leave it out",
    "debug": "Leave it out",
    "hide": "Leave it out",
    "pty": "Leave it out",
    "warn-only": "Leave it out",
    "config": "For another site file, add {1} FILE to the command",
    "command-timeout": "Set `deadlines` in the site file",
    "prompt-for-sudo-password": "Leave it out: a run asks where sudo needs a password",
    "identity": "Set `ssh.config` in the site file",
    "ssh-config": "Set `ssh.config` in the site file",
    "connect-timeout": "Set `deadlines.connect` in the site file",
    "prompt-for-login-password": "Leave it out: a run asks where ssh needs a password",
    "prompt-for-passphrase": "Leave it out: a run asks where ssh needs a passphrase",
}
"""Options of invoke or Fabric itself that have no effect on our commands -> what to do ({0}: the command that changes
nothing, {1}: the option that names a site file)."""


def is_meaningful(names: str) -> bool:
    """Whether an option of invoke itself means anything to our commands, by its names as invoke's help shows them."""
    return not any(f"--{name}" in names.replace("=", " ").replace("[", " ").split() for name in _NO_EFFECT)


def _parsed_before() -> Iterator[Mapping[str, Any]]:
    """The options that invoke or Fabric read before it loaded our commands."""
    for name in ("invoke.main", "fabric.main"):
        core = getattr(getattr(sys.modules.get(name), "program", None), "core", None)
        if core:
            yield core[0].args


def _obey_core_options(arguments: Mapping[str, Any]) -> None:
    """Print the version if asked for. Exit with 2 where one of invoke's own options was given that has no effect."""
    for name, argument in arguments.items():
        if name in _NO_EFFECT and argument.got_value and argument.value:
            fab = typed_name() == "fab"
            plan = (
                "fab -H HOST look" if fab else f"{typed_name()} plan`, or add --plan to the command: `undeploy --plan"
            )
            fix = _NO_EFFECT[name].format(plan, "--site" if fab else "--hosts")
            exit_usage(f"--{name} has no effect here: nothing was run. {fix}.")
    if "version" in arguments and arguments["version"].value:
        console.say(version())
        sys.exit(0)


# --- parse


def _parsed(parser: Any, argv: list[str]) -> Any:
    words = argv[: argv.index("--")] if "--" in argv else argv
    if _completes():
        return _parse_argv(parser, argv)
    for before, word in zip(["", *words], words, strict=False):
        if not word or (word.startswith("--") and word.endswith("=")):
            exit_usage(f"{(word or before).rstrip('=')} has an empty value. Leave it out, or give it a value.")
    if not parser.ignore_unknown:
        _refuse_early_options(parser, words)
    try:
        result = _parse_argv(parser, argv)
    except ParseError as error:  # what the functions below do not know
        exit_usage(f"{error}. Run `{typed_name()} --list` for the commands.")
    if result:
        _obey_core_options(result[0].args)
    names = [context.name for context in result[1:]]
    if len(names) > 1:
        exit_usage(
            f"Run one command at a time, not {' and '.join(names)}. `{typed_name()} {names[0]} --help` shows its options."
        )
    return result


def _completes() -> bool:
    """Whether this process answers a shell that completes a word: half a word is then no mistake."""
    return sys.argv[1:2] == ["--complete"]


def _refuse_early_options(parser: Any, words: list[str]) -> None:
    """Exit with 2 where an option of a command stands before the command."""
    first = words[0] if words else ""
    if not first.startswith("-") or first.partition("=")[0] in parser.initial.flags:
        return
    places = [place for place, word in enumerate(words) if word in parser.contexts]
    if places:
        moved = [*words[places[0] :], *words[: places[0]]]
        right = shlex.join([typed_name(), *moved])
        exit_usage(f"{first.partition('=')[0]} stands before the command. Write options after it: `{right}`.")


_ALIASES = {"-y": "--yes", "-v": "--verbose", "-n": "--plan", "--dry-run": "--plan", "--check": "--plan"}
"""Options as other tools call them -> ours, where a command has it."""

_OPTIONS_ELSEWHERE = {
    "--hosts": ("--site", "--inventory", "--site-file", "--hostfile", "--host", "--file", "-i"),
    "--site": ("--hosts", "--inventory", "--site-file", "--file", "-i"),
    "--yes": ("--force", "--assume-yes", "--assumeyes", "--non-interactive", "--auto-approve"),
    "--limit": ("--only", "--nodes", "--target"),
    "--json": ("--output", "--format"),
}
"""Our option -> what similar ones are called elsewhere."""

_COMMANDS_ELSEWHERE = {
    "install": ("upgrade", "update", "apply", "deploy", "reinstall", "setup"),
    "undeploy": ("uninstall", "remove", "delete", "destroy", "purge", "teardown"),
    "plan": ("diff", "dry-run", "preview"),
    "check": ("validate", "lint"),
    "discover": ("init", "scan", "detect", "find"),
    "doctor": ("status", "health", "diagnose"),
    "journal": ("history", "runs"),
    "rollback": ("undo", "revert", "restore", "downgrade"),
    "verify": ("test", "prove"),
}
"""Our command -> what similar ones are called elsewhere."""


def _handled(machine: Any, token: str) -> None:
    """A word that is neither a command, nor an option or its value, is the positional argument that may be left out; or wrong."""
    context = machine.context
    options = {**context.flags, **context.inverse_flags} if context else {}
    known = {
        *machine.contexts,
        *machine.contexts.aliases,
        *options,
        *(machine.initial.flags if machine.initial else ()),
        *(machine.initial.flags.aliases if machine.initial else ()),
    }
    if token not in known and not machine.ignore_unknown and not machine.waiting_for_flag_value:
        alias = _ALIASES.get(token, token)
        token = alias if alias in options else token
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
        _unknown(machine, token, "a command", machine.contexts, f"{typed_name()} --list", "the commands")
    else:
        noun, name = ("an option" if token.startswith("-") else "an argument"), f"{typed_name()} {context.name}"
        similar = options if token.startswith("-") else ()
        _unknown(machine, token, f"{noun} of {name}", similar, f"{name} --help", "its options")


def _unknown(machine: Any, word: str, kind: str, names: Iterable[str], command: str, shows: str) -> NoReturn:
    from dws_on_csm.config.nodeset import did_you_mean

    names = list(names)
    elsewhere = {**_COMMANDS_ELSEWHERE, **_OPTIONS_ELSEWHERE}
    ours = [name for name in names if word in elsewhere.get(name, ()) or (len(word) > 4 and name.startswith(word))]
    similar = f"; did you mean {ours[0]}?" if ours else did_you_mean(word, names) or "."
    _wrong(machine, f"{word} is not {kind}{similar} Run `{command}` for {shows}.")


def _wrong(machine: Any, text: str) -> NoReturn:
    """Exit with 2; where a shell completes a word, tell invoke up to where the words can be read."""
    if _completes():
        raise ParseError(text, machine.context)
    exit_usage(text)


def _completed_flag(machine: Any) -> None:
    flag = machine.flag
    if flag and flag.takes_value and flag.raw_value is None and not flag.optional:
        _wrong(
            machine,
            f"--{flag.name.replace('_', '-')} needs a value. Run `{typed_name()} {machine.context.name} --help` for its options.",
        )
    _complete_flag(machine)


def _completed_context(machine: Any) -> None:
    context = machine.context
    if context and (missing := context.missing_positional_args):
        words = " ".join(argument.name.upper() for argument in missing)
        name = f"{typed_name()} {context.name}"
        _wrong(machine, f"{name} needs {words}. Run `{name} --help` for its options.")
    _complete_context(machine)
