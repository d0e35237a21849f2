"""The program that users type, invoke or dws-on-csm: the commands of this checkout, its version, and exit codes in the help."""

from __future__ import annotations

import gc
import inspect
import os
import sys
from pathlib import Path
from typing import Any

from invoke import Program

from dws_on_csm.commands import command_line
from dws_on_csm.display import console
from dws_on_csm.model.this_program import version

YOUNG = 200_000
"""New objects after which Python looks for garbage in cycles (its own number: 700 to 2000). A run that changes nothing makes about
130,000, nearly all of them code that stays; to look through them again and again took 7 % of its CPU time. What waits meanwhile is
some 40 MB at most, and only garbage in cycles: everything else is freed at once, as always."""


class Commands(Program):  # type: ignore[misc]  # invoke is not checked here
    """invoke with a fixed collection of commands; its own options that mean nothing to them are neither shown nor taken."""

    def parse_cleanup(self) -> None:
        """As invoke does it; but a shell may complete a command line that begins with a path of this program."""
        if self.args.complete.value:
            first, _, rest = self.core.remainder.partition(" ")
            self.core.remainder = f"{Path(first).name} {rest}"
        super().parse_cleanup()
        command_line.keep_bytecode()

    def print_version(self) -> None:
        """Print the version of this checkout."""
        console.say(version())

    def print_help(self) -> None:
        """Print the commands, the options of the program itself, and the exit codes."""
        console.say(f"Usage: {self.binary} COMMAND [OPTIONS]", "")
        self.list_tasks()
        shown = [pair for pair in self.initial_context.help_tuples() if command_line.is_meaningful(pair[0])]
        console.say("Options:", "")
        self.print_columns(shown)
        console.say(f"`{self.binary} COMMAND --help` shows the options of a command.", command_line.EXIT_CODES)

    def print_task_help(self, name: str) -> None:
        """Print what a command does, its options, and the exit codes."""
        options = self.parser.contexts[name].help_tuples()
        words = [_usage(argument) for argument in self.parser.contexts[name].positional_args]
        console.say(" ".join(["Usage:", self.binary, name, *words, *(["[OPTIONS]"] if options else [])]), "")
        text = (inspect.getdoc(self.collection[name]) or "").splitlines()
        console.say(*(f"  {line}".rstrip() for line in text), "")
        if options:
            console.say("Options:", "")
            self.print_columns(options)


def _usage(argument: Any) -> str:
    word = str(argument.name).upper()
    return f"[{word}]" if argument.value == "" else word


def main(name: str) -> None:
    """Run the command line of this process as the program `name`. Does not return."""
    gc.set_threshold(YOUNG)
    from tasks import namespace

    try:
        Commands(namespace=namespace, name=name, binary=name, binary_names=[name]).run()
    except BrokenPipeError:  # `--help | head`: the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python flushes at its end goes there
        sys.exit(0)
