"""The report of a run as an HTML page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dws_on_csm.display.html import page, timeline
from dws_on_csm.display.html.timeline import Bar
from dws_on_csm.model.events import Awaiting, Began, Done, Event, Failure, Opened, Summary
from dws_on_csm.model.exit_codes import CHANGES, CONVERGED, DEGRADED, FAILED, REFUSED, UNPROVEN, USAGE
from tests.unit.sample_run import FAILURE, RUNS, START, events

VOID = {"meta"}
EVIL = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' x='",
    "</style></title></pre><b>",
    "&lt;b&gt;&#60;",
    "$title ${head} $$",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[2J\x00\x85\u202e",
    "a\nb",
    "\udc80",
]


class Reader(HTMLParser):
    """The page's elements, attributes and text; fails on elements that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.texts += [value for name, value in attrs if name == "title" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def told(happened: list[Event]) -> str:
    """The text of the page of these events."""
    return "".join(Reader(page.render(happened)).texts)


@pytest.mark.parametrize("name", RUNS)
def test_alone(name: str) -> None:
    """The page is one well-formed file that loads nothing and runs no program."""
    text = page.render(events(name))
    reader = Reader(text)
    assert reader.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert reader.attributes.isdisjoint({"src", "href", "onclick"})
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert text.isascii()


def test_told() -> None:
    """The page has the run, its result, each step's outcome and difference, the failure, and how to continue."""
    text = told(events("failed"))
    pieces = [
        "20251210-205320-4f2a",
        "✗ failed",
        "Deploy failed; Slurm was not touched.",
        "± changed",
        "+ tag: v0.0.20",
    ]
    pieces += [
        FAILURE.command,
        FAILURE.meaning,
        FAILURE.fix,
        FAILURE.tail[1],
        "make: *** [Makefile:113: deploy] Error 1",
    ]
    for piece in [*pieces, "invoke install --hosts hosts.yaml", "slurmctl[1-2]", "20 steps correct already"]:
        assert piece in text


@pytest.mark.parametrize("code", sorted({CONVERGED, FAILED, USAGE, REFUSED, CHANGES, UNPROVEN, DEGRADED}))
def test_only_a_failure_is_told_as_one(code: int) -> None:
    """Each exit code has a result of its own; a site that works with less than it should have has not failed."""
    happened = [replace(event, exit=code) if isinstance(event, Summary) else event for event in events("install")]
    assert ("✗ failed" in told(happened)) == (code in (FAILED, USAGE))


def test_proof() -> None:
    """The page has what verify reported; a verify that did not run is no proof."""
    assert "Proofslurmctl1: job" in told(events("install")).replace("\n", "")
    assert "Workflow bb12 went through 7 states and is gone" in told(events("install"))
    assert "Proof" not in told(events("failed"))


@pytest.mark.parametrize("evil", EVIL)
def test_hostile(evil: str) -> None:
    """Text of hosts, site files and programs stays text."""
    failures = (Failure(evil, 1, (evil,), evil, evil),)
    happened: list[Event] = [
        Opened(evil, evil, {evil: (evil,)}, {evil: ()}, START),
        Began(evil, evil, evil, title=evil, at=START),
        Awaiting(evil, evil, evil, why=evil, deadline=9.0),
        Done(evil, evil, evil, "failed", START, 2.0, diff=(f"+ {evil}",), note=evil, failures=failures),
        Done(evil, "verify", evil, "changed", START, 2.0, (f"+ {evil}",), evil),
        Summary(evil, 1, {"failed": 1}, 1, 1, 1, 2.0, evil, evil),
    ]
    harmless = Reader(page.render(events("failed")) + page.render(events("install")))
    reader = Reader(page.render(happened))
    assert reader.tags <= harmless.tags
    assert reader.attributes <= harmless.attributes
    texts = "".join(reader.texts)
    assert texts.replace("\n", "").isprintable()
    if evil.isprintable():
        assert texts.count(evil) > 10


def test_bars() -> None:
    """A step that took time has a bar, instant ones of a host share a mark, and a wait is part of its step's bar."""
    where = ("h", "deploy", "pods")
    happened: list[Event] = [
        Opened("r", "install", {"m": ("h",)}, {"deploy": ()}, START),
        *(Done("h", "deploy", step, "ok", START + 1.0, 0.0) for step in ("a", "b")),
        Began(*where, "kubectl apply", START + 1.0),
        Done("other", "deploy", "x", "changed", START + 1.0, 1.0),
        Awaiting(*where, "0 of 3", 60.0),
        Awaiting(*where, "1 of 3", 50.0),
        Done(*where, "changed", START + 1.0, 9.0),
        Done("h", "deploy", "late", "skipped", START + 10.0, 0.0),
    ]
    mark, pods, other = sorted(timeline.bars(happened), key=lambda bar: (bar.host, bar.end))[:3]
    assert mark == Bar("deploy", "h", "a, b", "ok", 1.0, 1.0, label="2 ok")
    assert pods == Bar("deploy", "h", "pods", "changed", 1.0, 10.0, 2.0, "0 of 3; 1 of 3")
    assert other.host == "other"


def test_bars_inside() -> None:
    """No bar leaves the axis, and a wait is within its bar."""
    for name in RUNS:
        text = page.render(events(name))
        for left, width in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", text):
            assert float(left) + float(width) <= 100.1
        assert all(float(share) <= 100 for share in re.findall(r'<u style="width:([\d.]+)%', text))


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_cut(cut: int) -> None:
    """The page of a run that was interrupted at any moment says so."""
    assert "… interrupted" in told(events("install")[:cut])


def test_many_hosts() -> None:
    """Hundreds of hosts are folded, and the same failure on several hosts is shown once."""
    text = page.render(events("wide"))
    assert text.count("The disk is full.") == 2
    assert len(text) < 200_000


def test_judged_twice() -> None:
    """A step that was checked again counts once."""
    done = Done("h", "preflight", "disk", "ok", START, 0.0)
    opened = Opened("r", "install", {"m": ("h",)}, {"preflight": ()}, START)
    again = replace(done, began=START + 1)
    assert "1 step correct already" in told([opened, done, again])
    assert [bar.begin for bar in timeline.bars([opened, done, again])] == [1.0]
