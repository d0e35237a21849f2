"""What is known of many hosts from few questions to ssh is what ssh says of each of them. OpenSSH is the judge."""

from __future__ import annotations

import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dws_on_csm.model.errors import Unreachable
from dws_on_csm.transport import ssh_config
from dws_on_csm.transport.ssh_answers import Answers
from dws_on_csm.transport.ssh_config import Query, Settings
from tests.ssh.server import HANG

NAMES = ("n1", "n2", "n3", "n10", "n11", "m1", "m2", "m3", "10.0.0.1", "10.0.0.2", "10.0.0.3", "N4", "root@n5", "n6:22")

SHARED = {
    "nothing": "",
    "one section": "Host n*\n  User x\n  Port 3\n",
    "a section for all": "Host *\n  User x\nMatch all\n  Port 4\n",
    "HostName for all": "Host n*\n  HostName gate.example\n",
    "HostName with the name": "Host n*\n  HostName %h.example\n",
    "values that look like a name": "Host n*\n  User n1\n  ProxyJump m1\n  IdentityFile /n1/m1\n",
    "keyword=value, tabs, a comment, line ends of DOS": "host=n*\r\n\tUser = x\r\n# Match exec true\r\n",
    "an included file in a section": "Host n*\n  Include {dir}/more\nHost *\n  Port 5\n",
}
APART = {
    "HostName that has the name twice": "Host n*\n  HostName %h.n1.%h\n",
    "sections for single hosts": "Host n1\n  Port 1\nHost n2 n3\n  Port 2\nHost n? !n3\n  User x\n",
    "a negated pattern": "Host * !n2\n  Port 7\n",
    "Match exec": 'Match exec "test %n = n2"\n  Port 8\n',
    "Match host": "Match host n2\n  Port 8\n",
    "Match final": "Host n2\n  HostName n3\nMatch final host n3\n  Port 9\n",
    "Match of an included file": "Include {dir}/matching\n",
    "ControlPath with tokens": "Host *\n  ControlPath /tmp/c-%r@%h:%p\n",
    "ControlPath with a digest": "Host *\n  ControlPath /tmp/c-%C\n",
    "other tokens": "Host *\n  IdentityFile /keys/%h\n  ProxyCommand nc %h %p\n",
    "CanonicalizeHostname": "CanonicalizeHostname always\nCanonicalDomains invalid\nCanonicalizeFallbackLocal yes\n",
    "quotes": 'Host "n1" n2\n  Port 6\n"Host" n3\n  Port 7\n',
    "a jump host among the hosts": "Host *\n  ProxyJump n2\n",
    "an unknown keyword": "Host *\n  UseKeychain yes\n",
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Query]:
    """The questions to ssh."""
    questions: list[Query] = []
    ask = ssh_config.ask_ssh

    def counted(query: Query, *more: Any) -> Any:
        questions.append(query)
        return ask(query, *more)

    monkeypatch.setattr(ssh_config, "ask_ssh", counted)
    return questions


def config(tmp_path: Path, text: str) -> Path:
    (tmp_path / "more").write_text("Host n1*\n  User y\nHost n*\n  User z\n")
    (tmp_path / "matching").write_text("Match originalhost n3\n  Port 8\n")
    file = tmp_path / "ssh_config"
    file.write_bytes(text.replace("{dir}", str(tmp_path)).encode())
    return file


def answer(read: Any, query: Query) -> Settings | str:
    try:
        found = read(query, HANG)
    except Unreachable as error:
        return str(error)
    assert isinstance(found, Settings)
    return found


def differing(queries: Sequence[Query]) -> list[str]:
    """The names of which something else is known than ssh says; threads ask at the same time."""
    answers = Answers(queries)
    with ThreadPoolExecutor(4) as pool:
        known = list(pool.map(lambda query: answer(answers.read, query), queries))
        told = list(pool.map(lambda query: answer(ssh_config.read, query), queries))
    return [query.name for query, mine, its in zip(queries, known, told, strict=True) if mine != its]


@pytest.mark.slow
@pytest.mark.parametrize("text", [*SHARED.values(), *APART.values()], ids=[*SHARED, *APART])
@pytest.mark.parametrize("user", ["", "root"])
def test_each_host_gets_what_ssh_says_of_it(tmp_path: Path, text: str, user: str) -> None:
    """Whatever ssh_config says, no host gets another host's settings."""
    file = config(tmp_path, text)
    assert differing([Query(name, file, user) for name in NAMES]) == []


@pytest.mark.parametrize("text", SHARED.values(), ids=SHARED)
def test_many_hosts_are_few_questions(tmp_path: Path, text: str, asked: list[Query]) -> None:
    """Where hosts differ in their names alone, any number of them is one question, and two for each group."""
    file = config(tmp_path, text)
    queries = [Query(f"{kind}{number}", file) for kind in "nm" for number in range(20, 120)]
    answers = Answers(queries)
    for query in queries:
        answers.read(query, HANG)
    assert len(asked) <= 7


@pytest.mark.slow
def test_random_files(tmp_path: Path) -> None:
    """The same for files put together at random: sections that overlap, in any order, with and without tokens."""
    chance = random.Random(13)  # noqa: S311  # the same files at each run
    patterns: Sequence[str] = ("n*", "m?", "n1", "!n2", "*", "10.0.*", "n??", "!m*", "?[1]")
    settings: Sequence[str] = (
        "Port 1",
        "Port 2",
        "User a",
        "HostName %h.x",
        "HostName y",
        "ProxyJump j",
        "Include {dir}/more",
    )
    settings = (*settings, "IdentityFile /k/%n", "ForwardAgent yes", "Match host n1,m1", "CanonicalizeHostname no")
    for _ in range(12):
        sections = (
            f"Host {' '.join(chance.sample(patterns, chance.randint(1, 3)))}\n  "
            + "\n  ".join(chance.sample(settings, chance.randint(1, 2)))
            for _ in range(chance.randint(1, 4))
        )
        text = "\n".join(sections) + "\n"
        file = config(tmp_path, text)
        assert differing([Query(name, file) for name in NAMES]) == [], text
