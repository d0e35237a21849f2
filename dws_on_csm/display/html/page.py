"""A run as one HTML page that needs nothing but itself: result, failures, timeline, proof, steps."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from string import Template

from dws_on_csm.display import tables
from dws_on_csm.display.failures import alike
from dws_on_csm.display.html.markup import Html, joined, tag
from dws_on_csm.display.html.timeline import INSTANT, drawn
from dws_on_csm.display.progress import Progress, StageProgress, fold, take
from dws_on_csm.display.style import SIGNS, duration, plural
from dws_on_csm.model.events import OUTCOMES, PROOFS, Done, Event, Failure, Opened, Outcome, Table
from dws_on_csm.model.printable import output

TEMPLATE = Path(__file__).resolve().parents[3] / "templates" / "report.html"

LONG = 14
"""Lines of a difference that are shown at once; longer ones are unfolded by who wants them."""


def render(events: Sequence[Event]) -> str:
    """The page of the run that these events tell of, in ASCII; a run that was cut has what is known of it."""
    progress = Progress()
    for event in events:
        take(progress, event, 0.0)
    opened = next((event for event in events if isinstance(event, Opened)), None)
    parts = {
        "title": f"{progress.task} {progress.run}",
        "head": _head(progress),
        "failures": _failures(progress),
        "timeline": drawn(progress, events),
        "proof": _proof([progress.stages[name] for name in PROOFS if name in progress.stages]),
        "steps": joined(*(_stage(stage) for stage in progress.stages.values())),
        "hosts": _hosts(opened),
    }
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute({key: joined(text) for key, text in parts.items()})
    return page.encode("ascii", "xmlcharrefreplace").decode()


# --- head and failures


def _head(progress: Progress) -> Html:
    end = progress.summary
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(progress.began))
    about = {"Run": progress.run, "Began": when, "Hosts": str(progress.hosts)}
    if end is not None:
        about |= {"Took": duration(end.seconds), "Connections": str(end.connections), "Commands": str(end.commands)}
        about["Exit code"] = str(end.exit)
    facts = tag("dl", *(tag("div", tag("dt", key), tag("dd", value)) for key, value in about.items()))
    said = tag("p", end.message, class_="message") if end is not None and end.message else ""
    go_on = tag("p", "Go on with ", tag("code", end.next)) if end is not None and end.next else ""
    lacking = joined(*(tag("p", one, class_="message") for one in end.lacking)) if end is not None else ""
    return joined(tag("h1", progress.task, " ", _result(progress)), said, lacking, go_on, facts, _counts(progress))


def _result(progress: Progress) -> Html:
    exits = {0: ("ok", "✓ converged"), 3: ("refused", "! refused"), 4: ("would change", "~ has changes")}
    exits |= {5: ("refused", "! installed, not proven")}
    if progress.summary is None:
        return tag("span", "… was cut", class_="badge unknown")
    kind, word = exits.get(progress.summary.exit, ("failed", "✗ failed"))
    return tag("span", word, class_=f"badge {kind}")


def _counts(progress: Progress) -> Html:
    totals = {outcome: sum(stage.counts[outcome] for stage in progress.stages.values()) for outcome in OUTCOMES}
    return tag("p", *(_outcome(name, f"{number} {name}") for name, number in totals.items() if number), class_="counts")


def _outcome(outcome: Outcome, text: str = "") -> Html:
    return tag("span", f"{SIGNS[outcome]} {text or outcome}", class_=f"outcome {outcome}")


def _failures(progress: Progress) -> Html:
    bad = alike(done for stage in progress.stages.values() for done in stage.bad)
    if not bad:
        return Html("")
    blocks = [
        tag("article", tag("h3", f"{fold(hosts)}: {done.stage}.{done.step} ", _outcome(done.outcome)), _told(done))
        for done, hosts in bad
    ]
    return tag("section", tag("h2", "What went wrong"), *blocks, class_="failures")


def _told(done: Done) -> Html:
    return joined(*(_failure(failure, done.outcome == "refused") for failure in done.failures), _diff(done.diff))


def _failure(failure: Failure, refused: bool) -> Html:
    rows = {
        "Finding" if refused else "Command": _lines(failure.command.splitlines(), "code"),
        "Exit code": joined(str(failure.code) if failure.code is not None else ""),
        "Output": _lines([output(line) for line in failure.tail], "pre"),
        "Means": _lines(failure.meaning.splitlines(), "p"),
        "Fix": _lines(failure.fix.splitlines(), "p"),
    }
    return tag("dl", *(tag("div", tag("dt", key), tag("dd", value)) for key, value in rows.items() if value))


def _lines(lines: Sequence[str], name: str) -> Html:
    """Lines of text as one element; nothing where there are none."""
    return tag(name, *(piece for line in lines for piece in (line, Html("\n")))) if lines else Html("")


# --- proof and steps


def _proof(stages: Sequence[StageProgress]) -> Html:
    seen: tuple[Outcome, ...] = ("ok", "changed", "failed")
    done = [one for stage in stages for one in stage.done if one.outcome in seen]
    told, measured = [one for one in done if one.note or one.diff], [*map(_table, tables.merged(done))]
    if not told and not measured:
        return Html("")
    articles = [
        tag("article", tag("h3", f"{d.host}: {d.step} ", _outcome(d.outcome)), tag("p", d.note), _diff(d.diff))
        for d in told
    ]
    return tag("section", tag("h2", "Proof"), *articles, *measured)


def _table(table: Table) -> Html:
    """What was measured; a row whose first cell is indented belongs to the one above."""
    head = tag("thead", tag("tr", *(tag("th", name) for name in table[0])))
    body = [
        tag("tr", *(tag("td", cell.strip()) for cell in row), class_="below" if row[0].startswith(tables.GAP) else "")
        for row in table[1:]
    ]
    return tag("table", head, tag("tbody", *body), class_="measured")


def _stage(stage: StageProgress) -> Html:
    if not stage.results:
        return Html("")
    right = [done for done in stage.done if done.outcome == "ok" and not done.note]
    rest = [done for done in stage.done if done.outcome != "ok" or done.note]
    table = tag("table", tag("tbody", *(_row(done, hosts) for done, hosts in _same(rest)))) if rest else Html("")
    return joined(tag("h3", stage.name), table, _right(right))


def _same(some: Iterable[Done]) -> list[tuple[Done, list[Done]]]:
    """Steps that went the same way on several hosts once, with how it went on each."""
    groups: dict[object, list[Done]] = {}
    for d in some:
        groups.setdefault((d.step, d.outcome, d.diff, d.note, d.failures), []).append(d)
    return [(group[0], group) for group in groups.values()]


def _row(done: Done, all_: Sequence[Done]) -> Html:
    longest = max(one.seconds for one in all_)
    said = [done.note, *(failure.meaning for failure in done.failures)]
    told = joined(*(tag("p", line) for text in said for line in text.splitlines()), _diff(done.diff))
    took = duration(longest) if longest >= INSTANT else ""
    cells = (_outcome(done.outcome), done.step, fold(one.host for one in all_), took, told)
    kinds = ("", "step", "where", "took", "told")
    return tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(cells, kinds, strict=True)))


def _right(right: Sequence[Done]) -> Html:
    if not right:
        return Html("")
    steps = dict.fromkeys(done.step for done in right)
    items = (tag("li", f"{step}: {fold(d.host for d in right if d.step == step)}") for step in steps)
    return tag(
        "details", tag("summary", _outcome("ok", f"{plural(len(right), 'step')} right already")), tag("ul", *items)
    )


def _diff(lines: Sequence[str]) -> Html:
    """A difference; a long one folded, with its size."""
    if not lines:
        return Html("")
    text = tag("pre", *_coloured(lines), class_="diff")
    if len(lines) <= LONG:
        return text
    plus, minus = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    return tag("details", tag("summary", f"+{plus} -{minus} lines"), text)


def _coloured(lines: Iterable[str]) -> Iterator[Html]:
    names = {"+": "ins", "-": "del", "@": "em"}
    return (tag(names.get(line[:1], "span"), line) for line in lines)


def _hosts(opened: Opened | None) -> Html:
    roles = {role: fold(hosts) for role, hosts in opened.hosts.items() if hosts} if opened else {}
    return tag("dl", *(tag("div", tag("dt", role), tag("dd", hosts)) for role, hosts in roles.items()))
