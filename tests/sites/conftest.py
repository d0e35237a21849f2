"""The results of all forms, found once; and the table of them at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sites.form import Result
from tests.sites.judge import judged
from tests.sites.ssh_forms import FORMS
from tests.sites.world import built

ROW = "a row of the table"
Row = tuple[str, str, str, str]


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Iterator[dict[str, Result]]:
    """What came of each form of ssh that was chosen, by its name."""
    chosen = {item.nodeid for item in request.session.items}
    forms = [form for form in FORMS if any(node.endswith(f"[{form.name}]") for node in chosen)]
    with tempfile.TemporaryDirectory(prefix="sites-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the second user has files in it
        with built(folder / "world") as world:
            yield judged(world, forms, folder)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Prints a row for each form: what it is, whether ssh and the tool got in, and the cause where the tool did not.

    Only where the forms were asked for (make sites). Forms of other files, which have their judge in them: whether they hold.
    """
    if "tests/sites" not in terminalreporter.config.args:
        return
    found = [report for reports in terminalreporter.stats.values() for report in reports]
    calls = [report for report in found if getattr(report, "when", "") == "call"]
    rows = [("form", "ssh", "tool", "cause"), *(_row(report) for report in calls)]
    width = max(len(row[0]) for row in rows)
    terminalreporter.section("sites: the forms")
    for form, ssh, tool, cause in rows:
        terminalreporter.write_line(f"{form:<{width}}  {ssh:<3}  {tool:<6}  {cause[:150]}".rstrip())


def _row(report: Any) -> Row:
    rows = [value for name, value in report.user_properties if name == ROW]
    form = report.nodeid.partition("[")[2].rstrip("]") or report.nodeid.rpartition("::")[2]
    row: Row = rows[0] if rows else (form, "", "holds" if report.outcome == "passed" else report.outcome, "")
    return row
