"""`invoke rollback [RUN]`: a positional argument that may be left out, which invoke's parser doesn't know."""

from __future__ import annotations

from invoke.parser.parser import ParseMachine

_handle = ParseMachine.handle


def _given(machine: ParseMachine, token: str) -> None:
    """A word that is neither a flag nor its value nor a task is the task's positional argument, whose default is ""."""
    context = machine.context
    free = [one for one in context.positional_args if one.value == ""] if context else []
    if free and not token.startswith("-") and token not in machine.contexts and not machine.waiting_for_flag_value:
        free[0].value = token
    else:
        _handle(machine, token)


def allow() -> None:
    """From now on positional arguments with the default "" may be given or left out."""
    ParseMachine.handle = _given
