"""`fab -H HOST look`: the state of one host, step by step, and how it differs from the wanted one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.failures import block
from dws_on_csm.display.paint import printed
from dws_on_csm.display.style import Row, changed, counted, plural, sign
from dws_on_csm.engine import plan as engine_plan
from dws_on_csm.engine.looks import LookFailed, keyed
from dws_on_csm.engine.state import Run
from dws_on_csm.model.event_json import step_record
from dws_on_csm.model.events import Done
from dws_on_csm.model.exit_codes import FAILED
from dws_on_csm.model.lines import lines
from dws_on_csm.model.printable import escaped
from dws_on_csm.model.secret import Secret
from dws_on_csm.model.stage_names import CONNECT
from dws_on_csm.model.step import NotYetKnown, Refused, Step, Value
from dws_on_csm.runner.connections import roles
from dws_on_csm.runner.read_only import Reading, looked
from dws_on_csm.runner.result import exit_code
from dws_on_csm.stages.slurm.computes import LEGEND

LONG = 120
"""Characters above which only a text's size is shown: the difference has those of its lines that matter."""

MANY = 8
"""Items with several values each, above which only a list's length is shown."""


def show(site: Site, as_json: bool) -> int:
    """Check the host that `site` is limited to, and print its state. The exit code is a plan's."""
    from dws_on_csm.stages.install import procedure

    host = next(iter(site.limit or ()))
    with looked(site, procedure(site)) as reading:
        if reason := reading.silent.get(host):
            printed([[(f"{host} cannot be reached: {reason.text}", "bold red")], [(f"    fix  {reason.fix}", "bold")]])
            return FAILED
        engine_plan.plan(reading.run)
        results = [done for done in reading.done() if done.host == host and done.stage != CONNECT]
        if as_json:
            console.records(record(done, _found(reading.run, done, host)) for done in results)
        else:
            printed(_rows(reading, results, host))
    outcomes = {(done.stage, done.step, done.host): done.outcome for done in results}
    return exit_code(outcomes, plan=True, unproven=False)


def _rows(reading: Reading, results: list[Done], host: str) -> Iterator[Row]:
    own_roles = ", ".join(role for role, hosts in roles(reading.run.site).items() if host in hosts)
    yield [(host, "bold"), (f"  {own_roles}; {reading.run.site.path}", "dim")]
    for other, reason in reading.silent.items():
        yield [(f"  {other} cannot be reached: {reason.text}; what depends on it is unknown", "bold red")]
    for done in results:
        yield from _step(reading.run, done, host)
    yield []
    counts = Counter[str](done.outcome for done in results)
    yield [*counted(counts), (f"  of {plural(len(results), 'step')}; nothing was changed", "dim")]


def record(done: Done, found: Value) -> dict[str, object]:
    """A step of the host, and what it found there, as a JSON object."""
    return {**step_record(done), "found": found}


def _step(run: Run, done: Done, host: str) -> Iterator[Row]:
    yield []
    if done.outcome in ("failed", "refused"):
        yield from block(done)
    else:
        note = f"  {done.note}" if done.note else ""
        mark = sign(done.outcome)
        yield [mark, (f" {done.stage}.{done.step}", "bold"), (f"  {done.outcome}", mark[1]), (note, "dim")]
    state = _found(run, done, host)
    if not (done.note and isinstance(state, str)):  # the note says the same
        yield from ([(f"      {line}", "dim")] for line in _lines(state))
    if done.diff:
        yield [(f"      {LEGEND}:", "bold")]
        yield from (changed(line, "      ") for line in done.diff)


def _found(run: Run, done: Done, host: str) -> Value:
    """The state that a step found, comparable with what it wants where possible; long texts by their size. None: unknown."""
    key = f"{done.stage}.{done.step}"
    item = keyed(run.stages)[key]
    try:
        value = run.board.have(key, host)
        return brief(item.have(run.board.context(host), value) if isinstance(item, Step) else value)
    except (NotYetKnown, Refused, LookFailed):
        return None


def brief(value: Value) -> Value:
    """The value, with the size in place of each long text and each long list of dicts."""
    if isinstance(value, dict):
        return {str(key): brief(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and len(value) > MANY and any(isinstance(item, dict) for item in value):
        return f"({len(value)} entries)"
    if isinstance(value, list | tuple):
        return [brief(item) for item in value]
    if isinstance(value, str) and (len(value) > LONG or "\n" in value):
        return f"({len(value.encode(errors='surrogateescape'))} bytes, {plural(len(lines(value)), 'line')})"
    return "(secret)" if isinstance(value, Secret) else value


def _lines(state: Value, key: str = "") -> Iterator[str]:
    """`KEY: value` lines, with dotted keys of nested dicts and without empty values."""
    if isinstance(state, dict):
        for name, item in state.items():
            yield from _lines(item, f"{key}.{name}" if key else name)
    elif isinstance(state, list) and any(isinstance(item, dict) for item in state):
        for number, item in enumerate(state):
            yield from _lines(item, f"{key}[{number}]")
    elif state not in (None, [], ""):
        text = ", ".join(map(_text, state)) if isinstance(state, list) else _text(state)
        yield f"{key}: {text}" if key else text


def _text(value: Value) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else escaped(str(value))
