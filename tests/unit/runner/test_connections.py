"""Hosts that do not respond: which of them a run goes on without."""

from dataclasses import replace

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import ControllerGroup, Host
from dws_on_csm.model.errors import Crowded, Unreachable
from dws_on_csm.runner.connections import Sessions, mark_absent, report_connections, roles
from dws_on_csm.transport.connect import Jumps

A, B, C = (Host(name, "controller", "root", False) for name in "abc")


@pytest.mark.parametrize(
    ("down", "limit", "absent", "lacking"),
    [
        ("", "", "", ""),
        ("b", "", "b", ""),
        ("c", "", "", "c"),
        ("bc", "", "b", "c"),
        ("ab", "", "", "ab"),
        ("b", "mb", "", "b"),
        ("b", "ma", "b", ""),
        ("abc", "", "", "abc"),
    ],
)
def test_controllers_that_may_be_down(down: str, limit: str, absent: str, lacking: str) -> None:
    """Of a and b one may be: a run goes on without it, unless the command line names it, or no controller responds."""
    groups = (ControllerGroup((A, B), 1), ControllerGroup((C,), 0))
    site = replace(load(DEFAULT), controllers=(A, B, C), controller_groups=groups, limit=frozenset(limit) or None)
    sessions = Sessions(Jumps())
    sessions.update((name, Unreachable(name, "no connection", "")) for name in down)
    site = mark_absent(site, sessions)
    assert site.absent == {*absent} and not any(map(site.active, absent))
    assert report_connections(site, roles(site), sessions, lambda event: None)[1] == tuple(lacking)


def test_a_controller_without_open_files_is_not_down() -> None:
    """may_be_down does not cover what this machine cannot connect to."""
    site = replace(load(DEFAULT), controllers=(A, B), controller_groups=(ControllerGroup((A, B), 1),))
    sessions = Sessions(Jumps())
    sessions["b"] = Crowded("b", "no open files", "")
    assert not mark_absent(site, sessions).absent


def test_the_first_controller_that_responds_follows_the_test_job() -> None:
    """Where the first of the site file is down and may be, the next one takes its part."""
    found = roles(replace(load(DEFAULT), controllers=(A, B), absent=frozenset("a")))
    assert (found["submitter"], found["login"]) == (("b",), ("b",))
