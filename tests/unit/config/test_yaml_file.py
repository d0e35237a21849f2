"""The errors of a site file: all mistakes at once, each with its place and the expected value."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dws_on_csm.config.load import load
from dws_on_csm.config.nodeset import instead, is_host
from dws_on_csm.config.yaml_file import SiteError
from tests.unit.site_files import HOSTS, JUDGE, MINIMAL, said

BAD_FOR_BOTH: list[tuple[str, dict[str, Any], str]] = [
    ("a wrong key", {"master": {"host": "m", "hots": "x"}}, "master.hots: unknown key; did you mean host?"),
    ("no hosts", {"controllers": []}, "controllers: the list is empty"),
    ("no master", {"master": {}}, "master.host: missing: a host's name"),
    ("nothing where hosts are", {"controllers": None}, "controllers: expected a list of `- host: NAME`, not nothing"),
    ("a key elsewhere", {"slurm": {"days": 3}}, "slurm.days: unknown key; it belongs to access"),
    ("a section elsewhere", {"slurm": {"test_job": {}}}, "test_job is a section: write it at the left margin"),
    ("two letters", {"acess": {}}, "acess: unknown key; did you mean access?"),
    (
        "a number",
        {"versions": {"dws": 0.1}},
        'versions.dws: expected a text, but YAML reads 0.1 as a number: write "0.1"',
    ),
    (
        "a truth",
        {"test_job": {"qos": True}},
        "test_job.qos: expected a text, but YAML reads true as true or false: write",
    ),
    ("a v", {"versions": {"plugin": "v0.0.5"}}, "versions.plugin: expected a version without its v"),
    ("no tag of git", {"versions": {"dws": "1..2"}}, "versions.dws: expected a version"),
    ("no tag of an image", {"versions": {"kube_rbac_proxy": "a b"}}, "kube_rbac_proxy: expected an image's tag"),
    ("a command", {"versions": {"dws": "$(reboot)"}}, "versions.dws: expected a version"),
    ("an option", {"master": {"host": "-oProxyCommand=x"}}, "master.host: expected a host's name or address"),
    ("a space", {"controllers": [{"host": "a b"}]}, "controllers[0].host: expected a host's name or a node set"),
    ("a group", {"controllers": [{"host": "@all"}]}, "controllers[0].host: expected a host's name or a node set"),
    (
        "an item",
        {"controllers": ["c"]},
        'controllers[0]: expected `host: NAME` or `pod:`, with their keys, not "c"',
    ),
    ("a relative path", {"master": {"host": "m", "workarea": "x"}}, "master.workarea: expected an absolute path"),
    ("the root", {"master": {"host": "m", "workarea": "/"}}, "master.workarea: expected an absolute path"),
    ("a way up", {"slurm": {"folder": "/etc/../x"}}, "slurm.folder: expected an absolute path"),
    (
        "PATH",
        {"master": {"host": "m", "path": "/bin:bin"}},
        "master.path: expected absolute folders, separated by colons",
    ),
    ("a unit", {"slurm": {"service": "a;b"}}, "slurm.service: expected a systemd unit's name"),
    ("few days", {"access": {"days": 0}}, 'access.days: expected a whole number from 1 to 3650, not "0"'),
    ("many days", {"access": {"days": 9999}}, "access.days: expected a whole number from 1 to 3650"),
    ("half days", {"access": {"days": 1.5}}, "access.days: expected a whole number from 1 to 3650"),
    ("a namespace", {"access": {"namespace": "A_b"}}, "access.namespace: expected a namespace's name"),
    ("a common name", {"access": {"common_name": "system:masters"}}, "access.common_name: expected at most 64"),
    ("no TLS", {"access": {"server": "http://a:1"}}, "access.server: expected https://HOST:PORT"),
    ("no name", {"registry": {"secret": "nexus"}}, "registry.secret: expected NAMESPACE/NAME"),
    ("a Secret's name", {"registry": {"secret": "nexus/A"}}, "registry.secret: expected NAMESPACE/NAME"),
    ("a registry's path", {"registry": {"name": "a/B"}}, "registry.name: expected HOST or HOST:PORT"),
    ("no deadline", {"deadlines": {"look": 0}}, 'deadlines.look: expected a number from 1 to 86400, not "0"'),
    ("half a second", {"deadlines": {"look": 0.5}}, 'deadlines.look: expected a number from 1 to 86400, not "0.5"'),
    ("a job's deadline", {"test_job": {"deadline": 0.9}}, "test_job.deadline: expected a number from 1 to 86400"),
    ("for ever", {"deadlines": {"look": float("inf")}}, "deadlines.look: expected a number from 1"),
    ("true seconds", {"deadlines": {"look": True}}, "deadlines.look: expected a number from 1"),
    ("no sources", {"sources": {"dws": []}}, "sources.dws: the list is empty"),
    ("a source", {"sources": {"dws": "https://a/b"}}, "sources.dws: expected a list"),
    ("a git command", {"sources": {"dws": ["ext::sh"]}}, "sources.dws[0]: expected a git URL"),
    ("plain http", {"sources": {"dws": ["http://a/b"]}}, "sources.dws[0]: expected a git URL (https://, ssh://"),
    ("git's own protocol", {"sources": {"plugin": ["git://a/b"]}}, "sources.plugin[0]: expected a git URL (https://"),
    ("another protocol", {"sources": {"plugin": ["ftp://a/b"]}}, "sources.plugin[0]: expected a git URL (https://"),
    (
        "a download over plain http",
        {"sources": {"kustomize": {"from": "http://a/b", "sha256": "ab" * 32}}},
        "sources.kustomize.from: expected a path, or an https:// URL",
    ),
    ("half a commit", {"versions": {"dws": {"tag": "0.0.20", "commit": "df34ad8"}}}, "commit: expected 40 hexadecimal"),
    ("a commit alone", {"versions": {"plugin": {"commit": "ab" * 20}}}, "versions.plugin.tag: missing: a version"),
    ("half a digest", {"sources": {"dws_image": ["a/b@sha256:ab"]}}, "sources.dws_image[0]: expected an image's name"),
    ("an image's tag", {"sources": {"dws_image": ["a/b:1"]}}, "sources.dws_image[0]: expected an image's name without"),
    ("a checksum", {"sources": {"kustomize": {"from": "x", "sha256": "ab"}}}, "sha256: expected 64 hexadecimal"),
    ("slurm_conf", {"computes": {"hosts": "n", "slurm_conf": "no"}}, "slurm_conf: expected check, edit or print"),
    ("a share", {"computes": [{"hosts": "n", "may_be_down": "101%"}]}, "may_be_down: expected a number of hosts, or"),
    ("no connections", {"ssh": {"connections": 0}}, "ssh.connections: expected a whole number from 1 to 1000"),
    ("perhaps", {"ssh": {"sudo": "perhaps"}}, 'ssh.sudo: expected true or false, not "perhaps"'),
    ("a finding", {"accept": "x"}, "accept: expected a list"),
    ("a finding's name", {"accept": ["a b"]}, "accept[0]: expected a finding's name"),
    ("no runs", {"keep_runs": 0}, "keep_runs: expected a whole number from 1 to 1000"),
    (
        "a truth that no quotes help",
        {"access": {"via": False}},
        'access.via: expected auto, ca, csr or serviceaccount, not "false"',
    ),
    ("a partition", {"test_job": {"partition": "-x"}}, "test_job.partition: expected a Slurm name"),
]


@pytest.mark.parametrize(("content", "text"), [bad[1:] for bad in BAD_FOR_BOTH], ids=[bad[0] for bad in BAD_FOR_BOTH])
def test_the_loader_and_an_editor_refuse_the_same(tmp_path: Path, content: dict[str, Any], text: str) -> None:
    """The loader refuses each mistake, with its key; so does another validator of the same schema."""
    whole = HOSTS | content
    assert not JUDGE.is_valid(whole)
    (line,) = said(tmp_path, yaml.safe_dump(whole))
    assert text in line


BAD_FOR_THE_LOADER = [
    ("one role", "computes: {hosts: 'c,n'}", "3:19: computes.hosts: c: already in controllers[0].host"),
    ("one node set", "computes: {hosts: 'n[1-'}", "3:19: computes.hosts: expected a host's name or a node set, like"),
    ("a range", "computes: {hosts: 'n[2-1]'}", "bad range"),
    ("a slip", "computes: {hosts: 'n[1-99999999]'}", "more than 100000 hosts"),
    ("nobody", "computes: {hosts: 'n!n'}", "it contains no hosts"),
    ("twice", "slurm: {service: a, service: b}", "3:21: slurm.service: duplicate key: line 3 already has it"),
    ("for ever new", "access: {days: 30}", "3:9: access.renew_below: expected less than access.days (30)"),
    ("no checksum", "sources: {kustomize: {from: x}}", "3:22: sources.kustomize.sha256: missing"),
    ("no source", f"sources: {{kustomize: {{sha256: {'ab' * 32}}}}}", "sources.kustomize.from: missing"),
    ("no ssh_config", "ssh: {config: nowhere}", "3:15: ssh.config: no such file: "),
    (
        "not a number",
        "deadlines: {look: .nan}",
        '3:19: deadlines.look: expected a number from 1 to 86400, not ".nan"',
    ),
    (
        "a misspelt finding",
        "accept: [clock-scew]",
        "3:10: accept[0]: unknown finding clock-scew; did you mean clock-skew?",
    ),
    (
        "any word",
        "accept: [clock-skew, xyz]",
        "3:22: accept[1]: unknown finding xyz; findings that can be accepted: account-shared, ",
    ),
    (
        "users' data",
        "accept: [workflow-live]",
        "workflow-live cannot be accepted: data of users or of jobs would be lost",
    ),
    (
        "somebody's job",
        "accept: [job-in-slurm]",
        "job-in-slurm cannot be accepted: data of users or of jobs would be lost",
    ),
    (
        "a lost key",
        "accept: [name-revoked]",
        "name-revoked cannot be accepted: unauthorized users may have, or get, rights",
    ),
    ("a date", "test_job: {qos: 2024-01-01}", "YAML reads 2024-01-01 as a timestamp: write"),
    ("a tag", "slurm: !mine x", '3:8: slurm: expected keys with values, not "x"'),
    ("no number", "keep_runs: !!int x", "3:12: keep_runs: expected a whole number from 1 to 1000"),
    ("a wrong merge", "slurm: {<<: x}", "3:13: slurm.<<: expected an alias of other keys with values"),
    ("itself", "slurm: &s {<<: *s}", "slurm.<<: expected an alias of other keys with values"),
    ("a key of keys", "slurm: {? {a: b} : c}", "slurm: a key must be a single word"),
    ("a line's end", 'versions: {dws: "1\\n"}', "3:17: versions.dws: expected a version"),
]


@pytest.mark.parametrize(("line", "text"), [b[1:] for b in BAD_FOR_THE_LOADER], ids=[b[0] for b in BAD_FOR_THE_LOADER])
def test_what_no_schema_can_say_is_refused_too(tmp_path: Path, line: str, text: str) -> None:
    """Mistakes that depend on other keys, on YAML's syntax or on this machine have a place and a reason, too."""
    (problem,) = said(tmp_path, f"{MINIMAL}{line}\n")
    assert text in problem


BAD_YAML: list[tuple[str, str | bytes, str]] = [
    ("an alias of nothing", "master: *m\n", "1:9: invalid YAML: found undefined alias 'm'"),
    ("two documents", f"{MINIMAL}---\na: b\n", "invalid YAML: expected a single document in the stream"),
    ("a control character", "a: b\nmaster: \x01", "2:9: the character #x01 cannot be in a text file: remove it"),
    ("Latin 1", "a: b\nmaster: {host: m\u00fcller}\n".encode("latin-1"), "2:17: this byte is not UTF-8"),
]


@pytest.mark.parametrize(("text", "problem"), [bad[1:] for bad in BAD_YAML], ids=[bad[0] for bad in BAD_YAML])
def test_invalid_yaml_is_reported_with_its_place(tmp_path: Path, text: str | bytes, problem: str) -> None:
    """Invalid YAML is one problem, in one line."""
    (line,) = said(tmp_path, text)
    assert problem in line


SITE = """\
master:
  host: m
controllers:
  - host: c
test_job:
  user: u
  folder: /tmp
"""
SLIPS: list[tuple[str, str, str, str]] = [
    ("a tab", "  host: m", "\thost: m", "2:1: a tab indents this line: write spaces instead"),
    ("a tab after spaces", "  folder", "  \tfolder", "7:3: a tab indents this line: write spaces instead"),
    (
        "no space, alone",
        "host: m",
        "host:m",
        '2:3: master: expected keys with values, not "host:m": a space is missing',
    ),
    ("no space in an item", "host: c", "host:c", "a space is missing after the colon: write `host: c`"),
    ("no space, then a key", "user: u", "user:u", "6:8: a space is missing after the colon: write `user: u`"),
    ("no space, last", "folder: /tmp", "folder:/tmp", "7:10: a space is missing after the colon: write `folder: /tmp`"),
    ("no space after a dash", "- host: c", "-host: c", "a space is missing after the dash: write `- host:`"),
    ("a password", "host: m", "from:https://joe:geheim@h/x\n  a: b", "2:8: a space is missing after the colon: write"),
    ("an open quote", "host: m", 'host: "m', '2:9: the quote (") that opens here is not closed'),
    (
        "an open quote, and others",
        "user: u\n",
        "user: 'u\n  qos: 'a'\n",
        "6:9: the quote (') that opens here is not closed",
    ),
    ("an open list", "user: u\n", "user: u\naccept: [orphan\n", "7:9: the [ that opens here is not closed: write ]"),
    ("an at sign", "user: u", "user: @u", '6:9: a text that begins with @ needs quotes: write "@u"'),
    ("a node set", "host: c", "host: [1-2]c", '4:11: a text that begins with [ needs quotes: write "[1-2]c"'),
    ("a colon in it", "user: u", "user: u: v", '6:9: a text with a colon and a space in it needs quotes: write "u: v"'),
    (
        "too far right",
        "  folder",
        "   folder",
        "7:4: this line begins in column 4, and line 6 in column 3: keys of one",
    ),
    ("too far left", "  folder", " folder", "7:2: this line begins in column 2, and line 6 in column 3: keys of one"),
    ("a finding", "test_job", "accept: orphan\ntest_job", 'accept: expected a list, not "orphan": write [orphan]'),
    ("two findings", "test_job", "accept: orphan, api-slow\ntest_job", ": write [orphan, api-slow]"),
    ("a source", "test_job", "sources: {dws: 'https://a/b'}\ntest_job", ": write [https://a/b]"),
]


@pytest.mark.parametrize(("right", "slip", "problem"), [row[1:] for row in SLIPS], ids=[row[0] for row in SLIPS])
def test_a_slip_of_yaml_has_its_own_place_and_what_to_write(
    tmp_path: Path, right: str, slip: str, problem: str
) -> None:
    """The message names the line of the slip, not the one where the parser gave up, and what to write there."""
    assert right in SITE
    lines = said(tmp_path, SITE.replace(right, slip))
    assert any(problem in line for line in lines), lines
    assert "geheim" not in "".join(lines)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}"])
def test_an_empty_file_lacks_the_required_keys(tmp_path: Path, text: str) -> None:
    """The errors name the two keys that every site needs."""
    assert [line.split(": ")[:3] for line in said(tmp_path, text)] == [
        ["1:1", "controllers", "missing"],
        ["1:1", "master", "missing"],
    ]


def test_a_missing_file_is_reported_with_the_fix(tmp_path: Path) -> None:
    """A missing or unreadable file is a problem of the file, not a stack trace; the message names the command's option."""
    with pytest.raises(SiteError, match=r"nowhere.yaml: no such file: .*--hosts PATH"):
        load(tmp_path / "nowhere.yaml")
    with pytest.raises(SiteError, match=r"or pass --site PATH$"):
        load(tmp_path / "nowhere.yaml", "--site")
    with pytest.raises(SiteError, match=r"Is a directory: expected a readable file"):
        load(tmp_path)


def test_all_mistakes_are_reported_at_once_in_the_files_order(tmp_path: Path) -> None:
    """Wrong keys, wrong types, bad node sets and conflicts are in one message, each with line and column."""
    text = (
        "master: {host: m, pki: pki}\n"
        "controllers:\n"
        "- hots: c\n"
        "- host: c[1-\n"
        "- host: m\n"
        "versions:\n"
        "  dws: 0.1\n"
        "access: {days: 0, renew_below: 600}\n"
    )
    assert [re.split(": (?=expected|missing|unknown|m:)", line)[0] for line in said(tmp_path, text)] == [
        "1:24: master.pki",
        "3:3: controllers[0].host",
        "3:3: controllers[0].hots",
        "4:9: controllers[1].host",
        "5:9: controllers[2].host",
        "7:8: versions.dws",
        "8:16: access.days",
    ]


def test_a_mistake_in_a_mapping_merged_twice_is_one_problem(tmp_path: Path) -> None:
    """The place is that of its text, once for each key that merges it."""
    text = "master: {host: m}\ncontrollers: [&c {host: c, sudo: x, sudo: y}, {<<: *c, host: d}]\n"
    lines = said(tmp_path, text)
    assert sum("controllers[0].sudo: duplicate key" in line for line in lines) == 1


@pytest.mark.parametrize(
    "source",
    [
        "sources: {dws: ['https://joe:geheim@host/x']}",
        "sources: {plugin: ['https://geheim@host/x']}",
        "sources: {kustomize: {from: 'https://joe:geheim@host/x'}}",
        "sources: {dws: ['ssh://joe:geheim@host/x']}",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(tmp_path: Path, source: str) -> None:
    """A password in a URL would show in process lists: it is refused, and the message does not repeat it."""
    lines = said(tmp_path, f"{MINIMAL}{source}\n")
    assert any("without a password" in line for line in lines)
    assert "geheim" not in "".join(lines)


FORMS = [
    (
        "ncn-m001:2222",
        "write ncn-m001 here and `Port 2222` under `Host ncn-m001` in the ssh_config that ssh.config names",
    ),
    ("root@ncn-m001", "write ncn-m001 here and `user: root` beside it"),
    ("root@ncn-m001:22", "write ncn-m001 here, `user: root` beside it, and `Port 22` under `Host ncn-m001` in"),
    ("ssh://ncn-m001", "write ncn-m001 here"),
    ("ssh://ncn-m001/", "write ncn-m001 here"),
    ("ssh://root@ncn-m001:2222", "write ncn-m001 here, `user: root` beside it, and `Port 2222` under"),
    ("10.0.0.1:22", "write 10.0.0.1 here and `Port 22` under `Host 10.0.0.1`"),
    ("[::1]:22", "write ::1 here and `Port 22` under `Host ::1`"),
    ("[::1]", "write ::1 here"),
    ("root@[fe80::1]:22", "write fe80::1 here, `user: root` beside it, and `Port 22` under `Host fe80::1`"),
]


@pytest.mark.parametrize(("value", "advice"), FORMS, ids=[value for value, _ in FORMS])
def test_a_host_is_a_name_alone(tmp_path: Path, value: str, advice: str) -> None:
    """Wherever a host is named, a user, a port, brackets or ssh:// are refused, with what to write instead."""
    places = {
        "1:16: master.host": f"master: {{host: '{value}'}}\ncontrollers: [{{host: c}}]",
        "2:22: controllers[0].host": f"master: {{host: m}}\ncontrollers: [{{host: '{value}'}}]",
        "3:19: computes.hosts": f"{MINIMAL}computes: {{hosts: '{value}'}}",
        "3:20: computes[0].hosts": f"{MINIMAL}computes: [{{hosts: '{value}'}}]",
    }
    for place, text in places.items():
        (problem,) = said(tmp_path, text)
        assert problem.startswith(f"{place}: expected a host's name or ")
        assert f": {advice}" in problem


def test_several_hosts_with_ports_are_refused(tmp_path: Path) -> None:
    """A port behind a node set is refused, too, and an IPv6 address is a host."""
    for value in ("c[1-2]:2222", "c1:22,c2:22", "root@c[1-2]", "a:b:c"):
        (line,) = said(tmp_path, f"master: {{host: m}}\ncontrollers: [{{host: '{value}'}}]\n")
        assert "controllers[0].host: expected a host's name or a node set" in line
    assert (
        instead("c[1-2]:22")
        == "write c[1-2] here and `Port 22` for these hosts in the ssh_config that ssh.config names"
    )
    assert instead("c1:22,c2:22").startswith("write c1,c2 here and `Port 22` for these hosts")
    assert not any(map(instead, ("nid[1-3,5]x[2-3]", "[1-3]", "@all", "a,b", "n1.example.org")))
    assert not instead("2001:db8::1")
    assert is_host("2001:db8::1")
