"""`invoke doctor`: every known problem with its name and its fix, by host; 0: nothing is wrong, 1: something is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from dws_on_csm.commands.doctor.diagnosis import Diagnosis, Told, Unseen, records
from dws_on_csm.commands.doctor.judge import diagnosed
from dws_on_csm.commands.doctor.probes import stages
from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.paint import printed
from dws_on_csm.display.progress import fold
from dws_on_csm.display.style import Row, plural
from dws_on_csm.model.printable import escaped
from dws_on_csm.runner.exit_codes import CONVERGED, FAILED, REFUSED
from dws_on_csm.runner.inspect import Reading, looked

PATIENCE = 200.0
"""Seconds for the looks of a host: several of them wait for what doesn't answer, one after the other."""


def doctor(site: Site, bundle: str | None, as_json: bool) -> int:
    """Look at everything and say what is wrong; `bundle` names the support archive that is written besides."""
    archive = Path(bundle).expanduser() if bundle else None
    if archive and (why := _unwritable(archive)):
        console.note(why)
        return REFUSED
    patient = replace(site, deadlines=replace(site.deadlines, look=max(PATIENCE, site.deadlines.look)))
    with looked(patient, stages()) as reading:
        diagnosis = diagnosed(reading)
        if as_json:
            console.records(records(diagnosis))
        else:
            printed(_rows(reading, diagnosis))
        written = archive is None or _written(archive, reading, diagnosis)
    return FAILED if diagnosis.found or not written else CONVERGED


def _unwritable(archive: Path) -> str:
    """Why there can be no such archive, known before anything is looked at; "" if there can."""
    if archive.exists():
        return f"{archive} is there already: name another file"
    writable = archive.parent.is_dir() and os.access(archive.parent, os.W_OK)
    return "" if writable else f"{archive.parent} is no folder that can be written to: name another file"


def _written(archive: Path, reading: Reading, diagnosis: Diagnosis) -> bool:
    """Whether the support archive could be written; both is said."""
    from dws_on_csm.commands.doctor import archive as doctor_archive
    from dws_on_csm.commands.doctor import tarball

    try:
        known, unread = doctor_archive.known(reading)
        tarball.write(archive, doctor_archive.members(reading, diagnosis, unread), known)
    except OSError as error:
        console.note(f"{archive} could not be written: {error}")
        return False
    console.note(f"{archive} has it all, for whoever helps; secrets are taken out")
    return True


# --- for people


def _rows(reading: Reading, diagnosis: Diagnosis) -> Iterator[Row]:
    for host, some in groupby(_folded(diagnosis.found), key=lambda one: one.host):
        yield [(host, "bold")]
        for one in some:
            yield [("  ✗ ", "bold red"), (one.finding.name, "bold red")]
            yield [("      ", ""), (escaped(one.finding.text), "")]
            yield [("      fix  ", "dim"), (escaped(one.finding.fix), "bold")]
        yield []
    yield from _unseen(diagnosis.unseen)
    for one in diagnosis.accepted:
        yield [(f"accepted by the site file: {one.host}: {one.finding.name}: {escaped(one.finding.text)}", "dim")]
    for note in diagnosis.notes:
        yield [(f"note: {note}", "dim")]
    yield _end(reading, diagnosis)


def _end(reading: Reading, diagnosis: Diagnosis) -> Row:
    hosts = len(reading.sessions.open())
    sizes = f"  {plural(diagnosis.looked, 'look')} at {plural(hosts, 'host')}"
    if diagnosis.found:
        return [("✗ ", "bold red"), (f"{plural(len(diagnosis.found), 'finding')}", "bold red"), (sizes, "dim")]
    said = "Nothing is wrong" + (", as far as could be seen" if diagnosis.unseen else "")
    return [("✓ ", "green"), (f"{said}.", "bold"), (sizes, "dim")]


def _folded(found: tuple[Told, ...]) -> list[Told]:
    """What is said of many hosts in the same words once, under their folded names."""
    groups: dict[tuple[str, str, str], list[Told]] = {}
    for one in found:
        text, fix = (said.replace(one.host, "HOST") for said in (one.finding.text, one.finding.fix))
        groups.setdefault((one.finding.name, text, fix), []).append(one)
    told = [_together(some, text, fix) for (_, text, fix), some in groups.items()]
    hosts = [*dict.fromkeys(one.host for one in found)]
    return [
        one for first, one in sorted(told, key=lambda pair: (hosts.index(pair[0]), len(pair[1].host), pair[1].host))
    ]


def _together(some: list[Told], text: str, fix: str) -> tuple[str, Told]:
    """The first of the hosts, and what is told of all of them."""
    first = some[0].host
    if len(some) == 1:
        return first, some[0]
    same = replace(some[0].finding, text=text.replace("HOST", "each of them"), fix=fix)
    return first, Told(fold([one.host for one in some]), same)


def _unseen(unseen: tuple[Unseen, ...]) -> Iterator[Row]:
    """What could not be seen: all that has one reason on a host in one line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in unseen:
        groups.setdefault((one.host, one.why.replace(one.step, "it")), []).append(one.step)
    for (host, why), steps in groups.items():
        yield [("? ", "magenta"), (f"{host}: not seen: {', '.join(steps)}: {escaped(why)}", "magenta")]
    if groups:
        yield []
