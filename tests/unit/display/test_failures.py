"""The same failure on several hosts, for people: once, with the hosts as a node set and commands for each of them."""

from __future__ import annotations

import subprocess

import pytest

from dws_on_csm.config.nodeset import expand
from dws_on_csm.display.failures import alike, block, for_each, without_host
from dws_on_csm.display.style import text
from dws_on_csm.model.events import Done, Failure


def refused(host: str, meaning: str, fix: str, tail: tuple[str, ...] = ()) -> Done:
    return Done(
        host, "preflight", "start", "refused", 1.0, 2.0, failures=(Failure("munge-down", None, tail, meaning, fix),)
    )


def test_a_finding_of_several_hosts_is_shown_once() -> None:
    """Its hosts are a node set, and its commands run on each of them."""
    results = [
        refused(host, f"munge is down on {host}.", f"run `ssh {host} id` or `date` on {host}") for host in ("c1", "c2")
    ]
    ((done, hosts),) = alike(results)
    rows = [text(row) for row in block(done, hosts)]
    assert "c[1-2]: preflight.start" in rows[0]
    assert "munge is down on each of them." in rows[2]
    assert "run `for host in c1 c2; do ssh $host id; done` or `date` on each of them" in rows[3]


@pytest.mark.parametrize(
    "hosts",
    [
        "nid[000001-001000]",
        "x1000c[0-2]s[0-7]b[0-1]n0",
        "n[1-3,5,08-12]",
        "n[1-4,7-9],login1,uan[01-02].site",
        "a,b,c,d,e,f,g,h,node-9",
    ],
)
def test_a_command_for_many_hosts_fits_a_line(hosts: str) -> None:
    """bash has all of them in its loop, and the finding is not a thousand names long."""
    names = expand(hosts)
    fix = for_each(without_host(f"run `echo {names[0]}`", names[0]), names)
    assert len(fix) < 150
    done = subprocess.run(["bash", "-c", fix.split("`")[1]], capture_output=True, text=True, check=True, timeout=60)
    assert sorted(done.stdout.split()) == sorted(names)


def test_a_finding_of_one_host_keeps_its_words() -> None:
    """Also where another host has the same finding in other words."""
    both = alike([refused("c1", "of c1: 3 lines", "a"), refused("c2", "of c2: 4 lines", "a")])
    assert [(hosts, done.failures[0].meaning) for done, hosts in both] == [
        (["c1"], "of c1: 3 lines"),
        (["c2"], "of c2: 4 lines"),
    ]


def test_a_hosts_name_inside_a_word_is_none_of_it() -> None:
    """A host may be named as a part of many words: c, or of a path."""
    results = [refused(host, f"{host}: the cluster of {host}.site and {host}-x", "f") for host in ("c", "d")]
    assert len(alike(results)) == 2
    results = [refused(host, f"the cluster, {host}", "f") for host in ("c", "d")]
    assert [done.failures[0].meaning for done, _ in alike(results)] == ["the cluster, each of them"]


def test_output_is_shown_as_it_was() -> None:
    """Results whose output differs are not one."""
    assert len(alike([refused(host, "m", "f", (f"{host} says no",)) for host in ("c1", "c2")])) == 2
