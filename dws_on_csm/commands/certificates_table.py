"""The controllers' certificates as `invoke certs` shows them: a column for each, and what is wrong below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dws_on_csm.display.style import Row, plural
from dws_on_csm.model.printable import escaped


@dataclass(frozen=True)
class Problem:
    """What is wrong with a certificate and what to do; `bad`: the plugin can't use it, or soon can't any more."""

    text: str
    fix: str
    bad: bool = True


@dataclass(frozen=True)
class Shown:
    """A controller's kubeconfig as it is shown. "" for what is not there; times are UTC, `since` and `until` in ISO 8601.

    days_left   whole days until it or the CA that signed it ends, whichever comes first; None without a certificate
    signed      whether the cluster's CA of today signed it; None where that isn't known
    may         what SlurmUser may do with it at the API server
    """

    host: str
    subject: str = ""
    issuer: str = ""
    since: str = ""
    until: str = ""
    days_left: int | None = None
    serial: str = ""
    signed: bool | None = None
    server: str = ""
    file: str = ""
    slurm_user: str = ""
    may: str = ""
    problems: tuple[Problem, ...] = ()


GAP = "  "


def rows(every: Sequence[Shown]) -> Iterator[Row]:
    """A column for each controller, and below what is wrong, once for all that have it."""
    cells = [_cells(one) for one in every]
    names = list(cells[0]) if cells else []
    first = max(map(len, names), default=0)
    widths = [max(len(text) for text in column.values()) for column in cells]
    for name in names:
        line = GAP.join(escaped(column[name]).ljust(width) for column, width in zip(cells, widths, strict=True))
        yield [(name.ljust(first) + GAP, "dim"), (line.rstrip(), "bold" if not name else "")]
    yield from _told(every)


def _cells(one: Shown) -> dict[str, str]:
    day = {"T": " ", "Z": ""}
    since, until = ("".join(day.get(c, c) for c in text) for text in (one.since, one.until))
    signed = {True: "the cluster's CA of today", False: "another CA", None: ""}[one.signed]
    return {
        "": one.host,
        "subject": one.subject,
        "issuer": one.issuer,
        "from": since,
        "until": until,
        "days left": "" if one.days_left is None else str(one.days_left),
        "serial": one.serial,
        "signed by": signed,
        "API server": one.server,
        "file": one.file,
        "SlurmUser": f"{one.slurm_user} {one.may}",
    }


def _told(every: Sequence[Shown]) -> Iterator[Row]:
    groups: dict[Problem, list[str]] = {}
    for one in every:
        for problem in one.problems:
            groups.setdefault(problem, []).append(one.host)
    yield []
    if not groups:
        yield [("✓ ", "green"), (f"{plural(len(every), 'certificate')}, and SlurmUser can use each.", "bold")]
    for problem, hosts in groups.items():
        sign, style = ("✗", "bold red") if problem.bad else ("!", "yellow")
        yield [(f"{sign} {', '.join(hosts)}: {escaped(problem.text)}", style), (f"  {problem.fix}", "bold")]
