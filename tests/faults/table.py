"""The table that is printed in the end: a line for each step, a column for each fault."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.trial import Verdict


def table(verdicts: Sequence[Verdict]) -> str:
    """As Markdown. A cell has a word for each moment that was tried: its name where all held, in capitals where a check failed."""
    faults = list(dict.fromkeys(verdict.cell.fault.name for verdict in verdicts))
    steps = list(dict.fromkeys(verdict.cell.row.name for verdict in verdicts))
    lines = [["step", *faults], ["--"] * (len(faults) + 1)]
    for step in steps:
        mine = [verdict for verdict in verdicts if verdict.cell.row.name == step]
        lines.append([step, *(_words([one for one in mine if one.cell.fault.name == fault]) for fault in faults)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _words(verdicts: Sequence[Verdict]) -> str:
    return " ".join(_word(verdict) for verdict in verdicts)


def _word(verdict: Verdict) -> str:
    name = verdict.cell.point.name
    return f"{name.upper() if verdict.failures else name} {verdict.seconds:.0f} s"
