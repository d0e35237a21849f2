"""A form of ssh_config, keys, known_hosts or sshd that real sites have, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

HOST = "host"
"""The name by which a form's host is asked for."""


@dataclass(frozen=True)
class Form:
    """One row of the table. Texts may contain the places of world.Place: {dir}, {key}, {port}, {known}, and others.

    name       what the site has
    config     lines of ssh_config for the host; they outrank the usual ones
    without    the usual lines that it lacks: IdentityFile, UserKnownHostsFile
    before     sections of ssh_config before the host's
    after      sections of ssh_config after it
    server     the sshd: a name of world.SERVERS
    files      name in {dir} -> its content
    modes      name in {dir} -> its mode
    agent      names of the keys that the agent at {agent} has: of world.World.agent_key()
    delay      seconds that the agent needs for a signature
    env        variables of the environment
    user       the local user: "root" or "nobody"
    master     whether a master connection is open, made with the key {second}
    answer     what a person on the terminal answers to each question; "": there is no terminal
    ask        the name that ssh and the tool are asked for
    cause      what the tool names as the cause, a regular expression; "": ssh gets in
    apart      why the tool does not get in, although ssh does, and that is on purpose
    connect    deadlines.connect
    """

    name: str
    config: str = ""
    without: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    server: str = "plain"
    files: Mapping[str, str] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    agent: tuple[str, ...] = ()
    delay: float = 0.0
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = "root"
    master: bool = False
    answer: str = ""
    ask: str = HOST
    cause: str = ""
    apart: str = ""
    connect: float = 60.0


@dataclass(frozen=True)
class Result:
    """What came of a form: whether ssh and the tool got in, the tool's words, and how often each had the agent sign."""

    ssh: bool
    tool: bool
    ssh_words: str
    cause: str
    fix: str
    ssh_signatures: int
    tool_signatures: int
    stderr: str
    seconds: float
