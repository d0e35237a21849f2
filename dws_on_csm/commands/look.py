"""`fab -H HOST look`: everything that was found on one host, step by step, and how it differs from what is wanted."""

from __future__ import annotations

from collections.abc import Iterator

from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.failures import block
from dws_on_csm.display.paint import printed
from dws_on_csm.display.style import Row, changed, counted, plural, sign
from dws_on_csm.engine import apply
from dws_on_csm.engine.looks import LookFailed, keyed
from dws_on_csm.engine.state import Run
from dws_on_csm.model.event_json import step_record
from dws_on_csm.model.events import Done
from dws_on_csm.model.lines import lines
from dws_on_csm.model.printable import escaped
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.step import NotYetKnown, Refused, Value
from dws_on_csm.runner.connections import roles
from dws_on_csm.runner.exit_codes import FAILED, exit_code
from dws_on_csm.runner.inspect import Reading, looked

LONG = 120
"""Characters from which a text is told by its size: its lines are in the difference where it differs."""

MANY = 8
"""Items, each with several values, from which a list is told by its length."""


def show(site: Site, as_json: bool) -> int:
    """Look at the host that `site` is limited to and print what is there. The exit code is a plan's."""
    from dws_on_csm.stages.install import STAGES

    host = next(iter(site.limit or ()))
    with looked(site, STAGES) as reading:
        if reason := reading.silent.get(host):
            printed([[(f"{host} can't be reached: {reason.text}", "bold red")], [(f"    fix  {reason.fix}", "bold")]])
            return FAILED
        apply.plan(reading.run)
        done = [one for one in reading.done() if one.host == host and one.stage != "connect"]
        if as_json:
            _json(reading.run, done, host)
        else:
            printed(_rows(reading, done, host))
    return exit_code({(one.stage, one.step, one.host): one.outcome for one in done}, plan=True, unproven=False)


def _json(run: Run, done: list[Done], host: str) -> None:
    console.records({**step_record(one), "found": _found(run, one, host)} for one in done)


def _rows(reading: Reading, done: list[Done], host: str) -> Iterator[Row]:
    ctx = ", ".join(role for role, hosts in roles(reading.run.site).items() if host in hosts)
    yield [(host, "bold"), (f"  {ctx}; {reading.run.site.path}", "dim")]
    for other, reason in reading.silent.items():
        yield [(f"  {other} can't be reached: {reason.text}; what it would say is not known here", "bold red")]
    for one in done:
        yield from _step(reading.run, one, host)
    counts: dict[str, int] = {}
    for one in done:
        counts[one.outcome] = counts.get(one.outcome, 0) + 1
    yield []
    yield [*counted(counts), (f"  of {plural(len(done), 'step')}; nothing was changed", "dim")]


def _step(run: Run, one: Done, host: str) -> Iterator[Row]:
    yield []
    if one.outcome in ("failed", "refused"):
        yield from block(one)
    else:
        note = f"  {one.note}" if one.note else ""
        yield [
            sign(one.outcome),
            (f" {one.stage}.{one.step}", "bold"),
            (f"  {one.outcome}", sign(one.outcome)[1]),
            (note, "dim"),
        ]
    found = _found(run, one, host)
    if not (one.note and isinstance(found, str)):  # the note says the same
        yield from ([(f"      {line}", "dim")] for line in _lines(found))
    if one.diff:
        yield [("      - is there, + is wanted:", "bold")]
        yield from (changed(line, "      ") for line in one.diff)


def _found(run: Run, one: Done, host: str) -> Value:
    """What a step found, in the words of what it wants where that can be said; long texts by their size."""
    key = f"{one.stage}.{one.step}"
    item = keyed(run.stages)[key]
    try:
        found = run.board.have(key, host)
        read = getattr(item, "read", None)
        return brief(read(run.board.context(host), found) if read else found)
    except (NotYetKnown, Refused, LookFailed):
        return None


def brief(value: Value) -> Value:
    """The value with each long text and each long list of dicts replaced by its size."""
    if isinstance(value, dict):
        return {str(key): brief(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and len(value) > MANY and any(isinstance(item, dict) for item in value):
        return f"({len(value)} of them)"
    if isinstance(value, list | tuple):
        return [brief(item) for item in value]
    if isinstance(value, str) and (len(value) > LONG or "\n" in value):
        return f"({len(value.encode(errors='surrogateescape'))} bytes, {plural(len(lines(value)), 'line')})"
    return "(secret)" if isinstance(value, Secret) else value


def _lines(found: Value, key: str = "") -> Iterator[str]:
    """`KEY: value` a line, keys of nested dicts dotted; what is empty is left out."""
    if isinstance(found, dict):
        for name, item in found.items():
            yield from _lines(item, f"{key}.{name}" if key else name)
    elif isinstance(found, list) and any(isinstance(item, dict) for item in found):
        for number, item in enumerate(found):
            yield from _lines(item, f"{key}[{number}]")
    elif found not in (None, [], ""):
        said = ", ".join(map(_said, found)) if isinstance(found, list) else _said(found)
        yield f"{key}: {said}" if key else said


def _said(value: Value) -> str:
    if isinstance(value, list):
        return " ".join(map(_said, value))
    return str(value).lower() if isinstance(value, bool) else escaped(str(value))
