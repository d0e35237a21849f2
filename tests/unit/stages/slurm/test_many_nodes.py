"""slurm.conf of many compute nodes: what is equal is read once."""

from __future__ import annotations

import base64
import gzip
from dataclasses import replace

import pytest

from dws_on_csm.config.load import DEFAULT, load
from dws_on_csm.config.site import ComputeGroup, Host, Site
from dws_on_csm.domain import slurm_conf
from dws_on_csm.model.step import Facts, StepContext
from dws_on_csm.stages import facts
from dws_on_csm.stages.slurm import activate, computes

WANTED = "ClusterName=x\nBurstBufferType=burst_buffer/lua\n" + "".join(f"NodeName=n{number}\n" for number in range(50))
CONTROLLER = load(DEFAULT).controllers[0].name


def shown(text: str) -> bytes:
    """What the look prints on a node with this file."""
    return b"644 root:root - " + base64.b64encode(gzip.compress(text.encode()))


def lines_read(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> tuple[int, list[bool]]:
    """How many lines are read for nodes with these files, one after the other, and whether each is changed."""
    numbers: list[int] = []
    line = slurm_conf.Line

    def counting(raw: str, start: int, first: int, last: int, text: str) -> slurm_conf.Line:
        numbers.append(first)
        return line(raw, start, first, last, text)

    monkeypatch.setattr(slurm_conf, "Line", counting)
    nodes = {f"node{number}": computes.parse(shown(text)) for number, text in enumerate(texts)}
    hosts = tuple(Host(name, "compute", "root", False) for name in nodes)
    site: Site = replace(load(DEFAULT), computes=(ComputeGroup(hosts, "edit", 0),))
    known = Facts(
        {
            facts.CONTROLLER.name: {CONTROLLER: {"files": {site.slurm.conf: WANTED}}},
            activate.SLURM_CONF.name: {CONTROLLER: {"id": "", "text": WANTED}},
            computes.EDITED.name: dict(nodes),
        }
    )
    step = next(iter(computes.STAGE.steps))
    contexts = [StepContext(site, known, name) for name in nodes]
    changed = [step.have(ctx, nodes[ctx.host]) != step.want(ctx) for ctx in contexts]  # type: ignore[union-attr]
    monkeypatch.undo()
    return len(numbers), changed


def test_equal_files_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred nodes with equal files cost no more than two; a file that differs is still seen, and costs its own reading."""
    for text in (WANTED, WANTED.replace("burst_buffer/lua", "none")):
        mark = f"# {text.count('lua')}\n"  # a text of its own for each case: what an earlier one read is remembered
        two, changed = lines_read(monkeypatch, [f"{text}{mark}a=1\n"] * 2)
        assert changed == [True] * 2
        many, changed = lines_read(monkeypatch, [f"{text}{mark}a=2\n"] * 100)
        assert changed == [True] * 100
        assert 0 < many <= two
    _, changed = lines_read(monkeypatch, [WANTED, WANTED + "# a comment\n", WANTED + "a=3\n", WANTED])
    assert changed == [False, False, True, False]


def test_equal_texts_are_in_memory_once() -> None:
    """Nodes with equal files share one text."""
    nodes = [computes.parse(shown("ClusterName=y\n")) for _ in range(3)]
    assert len({id(node["text"]) for node in nodes if node}) == 1
