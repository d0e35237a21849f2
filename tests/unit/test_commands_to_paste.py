"""Commands that a message gives an administrator to paste: no name in them may run anything else."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.unit import sources

OUR_OWN = {
    ("commands/command_line.py", "names[0]"),  # what was typed, and is a task of ours
    ("commands/history/rollback.py", "complete[-1]"),  # a run's id, which has a form of its own
    ("config/nodeset.py", "ports[0]"),  # lines of the site file, not commands, here and below
    ("config/nodeset.py", "users[0].partition(':')[0]"),
    ("stages/dws/refusals.py", "refusal['remove']"),  # a command, whose names were quoted when it was made
    ("stages/preflight/unlisted_controllers.py", "entry.names[0]"),
    ("transport/known_hosts.py", "self._to.key_names[0]"),  # the operator's own ssh_config
}


def subscripts_in_commands() -> Iterator[tuple[str, str]]:
    """(file, expression) of each element of something that stands unquoted between backticks in a message.

    What hosts and the cluster answered is kept in such containers; attributes are the site file's and constants.
    """
    for file, tree in sources.trees().items():
        for text in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
            inside = False
            for part in text.values:
                if isinstance(part, ast.Constant):
                    inside ^= str(part.value).count("`") % 2 == 1
                elif inside and isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Subscript):
                    yield str(file.relative_to(sources.PRODUCT)), ast.unparse(part.value)


def test_what_came_from_elsewhere_is_quoted() -> None:
    """A path or a number that a host or the cluster chose stands in a command as one quoted word."""
    assert set(subscripts_in_commands()) <= OUR_OWN
