"""`invoke doctor`: every known problem by host, with its name and its fix. Exit code 0: no findings, 1: findings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from dws_on_csm.commands import part_file
from dws_on_csm.commands.doctor import metrics
from dws_on_csm.commands.doctor.diagnosis import Diagnosis, HostFinding, Unseen, records
from dws_on_csm.commands.doctor.judge import diagnose
from dws_on_csm.commands.doctor.probes import stages
from dws_on_csm.config.site import Site
from dws_on_csm.display import console
from dws_on_csm.display.failures import for_each, without_host
from dws_on_csm.display.paint import printed
from dws_on_csm.display.progress import fold
from dws_on_csm.display.style import Row, plural
from dws_on_csm.model.exit_codes import FAILED, USAGE
from dws_on_csm.model.printable import escaped
from dws_on_csm.model.step import Finding
from dws_on_csm.runner import commands_to_paste
from dws_on_csm.runner.read_only import Reading, looked

PATIENCE = 200.0
"""Seconds for the checks of a host: several of them may each wait for something that does not respond."""


def doctor(
    site: Site, archive_path: str | None, as_json: bool, verbose: bool = False, metrics_path: str | None = None
) -> int:
    """Check everything, print the findings, and write a support archive and metrics if they have a path. The exit code.

    verbose   findings that follow from another one are shown with their texts and fixes, not by their names alone
    """
    archive = Path(archive_path).expanduser() if archive_path else None
    if archive and (why := why_no_archive(archive)):
        console.note(why)
        return USAGE
    file = Path(metrics_path).expanduser() if metrics_path else None
    if file and (why := metrics.why_no_metrics(file)):
        console.note(why)
        return USAGE
    began = time.time()
    patient = replace(site, deadlines=replace(site.deadlines, look=max(PATIENCE, site.deadlines.look)))
    with looked(patient, stages(patient)) as reading:
        diagnosis = diagnose(reading)
        if not as_json:
            printed(finding_rows(reading, diagnosis, verbose))
        written = archive is None or _written(archive, reading, diagnosis)
        if file:
            now = time.time()
            written &= _exported(file, metrics.render(reading, diagnosis, now, now - began))
        code = diagnosis.exit_code if written else FAILED
        if as_json:
            console.records(records(diagnosis, code))
    return code


def why_no_archive(archive: Path) -> str:
    """Why the archive cannot be written there, before any host is checked; "" if it can."""
    if archive.exists():
        return f"{archive} already exists. Choose another file name."
    return part_file.why_unwritable(archive)


def _written(archive: Path, reading: Reading, diagnosis: Diagnosis) -> bool:
    """Write the support archive and say so; False if that fails."""
    from dws_on_csm.commands.doctor import support_archive

    try:
        known, unread = support_archive.known_secrets(reading)
        support_archive.write(archive, support_archive.members(reading, diagnosis, unread), known)
    except OSError as error:
        console.note(f"The support archive {archive} could not be written: {error}")
        return False
    console.note(f"Support archive written to {archive} (secrets redacted).")
    return True


def _exported(file: Path, text: str) -> bool:
    """Write the metrics; False, and a line that says so, if that fails."""
    try:
        metrics.write(file, text)
    except OSError as error:
        console.note(f"The metrics could not be written to {file}: {error.strerror}")
        return False
    return True


# --- for people


def finding_rows(reading: Reading, diagnosis: Diagnosis, verbose: bool) -> Iterator[Row]:
    """The findings as rows of a terminal."""
    for host, groups in groupby(_groups(diagnosis.causes), key=lambda group: group[0].host):
        yield [(host, "bold")]
        for at, same in groups:
            yield from _finding(at.finding)
            yield from _following(at.host, [each for each in diagnosis.findings if each.follows_from in same], verbose)
        yield []
    yield from unseen_rows(diagnosis.unseen)
    for at in diagnosis.accepted:
        yield [(f"accepted by the site file: {at.host}: {at.finding.name}: {escaped(at.finding.text)}", "dim")]
    for note in diagnosis.notes:
        yield [(f"note: {note}", "dim")]
    yield _last_row(reading, diagnosis)


def _finding(finding: Finding) -> Iterator[Row]:
    yield [("  ✗ ", "bold red"), (finding.name, "bold red")]
    yield [("      ", ""), (escaped(finding.text), "")]
    yield [("      fix  ", "dim"), (escaped(finding.fix), "bold")]


def _following(host: str, followers: list[HostFinding], verbose: bool) -> Iterator[Row]:
    """The findings that follow from one of `host`: their names in one line, or each with its text and fix."""
    merged = merged_over_hosts(followers)
    names = [at.finding.name if at.host == host else f"{at.finding.name} ({at.host})" for at in merged]
    if verbose:
        for name, at in zip(names, merged, strict=True):
            yield [(f"      follows from this: {name}: {escaped(at.finding.text)}", "dim")]
            yield [(f"          fix  {escaped(at.finding.fix)}", "dim")]
    elif names:
        distinct = ", ".join(dict.fromkeys(names))
        yield [(f"      follows from this: {plural(len(followers), 'finding')}: {distinct}", "dim")]


def _last_row(reading: Reading, diagnosis: Diagnosis) -> Row:
    sizes = f"  {plural(diagnosis.checks, 'check')} on {plural(len(reading.sessions.open()), 'host')}"
    if diagnosis.findings:
        found, following = len(diagnosis.causes), len(diagnosis.findings) - len(diagnosis.causes)
        more = f"; {following} more {'follows' if following == 1 else 'follow'} from {'it' if found == 1 else 'them'}"
        hint = "" if not following else f"{more} (`invoke doctor --verbose` shows {'it' if following == 1 else 'them'})"
        hint = commands_to_paste.with_site(hint, reading.run.site)
        return [("✗ ", "bold red"), (plural(found, "finding"), "bold red"), (hint, ""), (sizes, "dim")]
    if diagnosis.unseen:
        return [("? ", "magenta"), (_unclear(diagnosis.unseen), "bold"), (sizes, "dim")]
    return [("✓ ", "green"), ("No problems found.", "bold"), (sizes, "dim")]


def _unclear(unseen: Sequence[Unseen]) -> str:
    """The last line where nothing was found, and some checks could not be made: how many; and why, if that is one reason."""
    failed = [check for check in unseen if not check.waits]
    reasons = {without_host(check.reason("each"), check.host) for check in failed}
    number = plural(len(unseen), "check")
    if len(reasons) == 1 and len(failed) > 1:
        words = f"Could not tell: {number} could not be made, for one reason: {escaped(failed[0].reason('each'))}."
    else:
        words = f"Could not tell: {number} could not be made."
    return f"{words} The others found no problem."


def merged_over_hosts(findings: Sequence[HostFinding]) -> list[HostFinding]:
    """The findings, and those that several hosts have in the same words once, under the hosts' folded names."""
    return [at for at, _ in _groups(findings)]


def _groups(findings: Sequence[HostFinding]) -> list[tuple[HostFinding, list[HostFinding]]]:
    """As `merged_over_hosts`, each with the findings for which it stands."""
    groups: dict[tuple[str, str, str], list[HostFinding]] = {}
    for at in findings:
        text, fix = (without_host(words, at.host) for words in (at.finding.text, at.finding.fix))
        groups.setdefault((at.finding.name, text, fix), []).append(at)
    merged = [(_together(same, text, fix), same) for (_, text, fix), same in groups.items()]
    hosts = [*dict.fromkeys(at.host for at in findings)]
    merged.sort(key=lambda pair: (hosts.index(pair[1][0].host), len(pair[0].host), pair[0].host))
    return merged


def _together(same: list[HostFinding], text: str, fix: str) -> HostFinding:
    """One finding in place of `same`; `text` and `fix` are of `without_host`."""
    hosts = [at.host for at in same]
    words = replace(same[0].finding, text=for_each(text, hosts), fix=for_each(fix, hosts))
    return HostFinding(fold(hosts), words) if len(same) > 1 else same[0]


def unseen_rows(unseen: tuple[Unseen, ...]) -> Iterator[Row]:
    """The checks that could not be made, those of a host with the same reason in one line."""
    groups: dict[tuple[str, str], list[Unseen]] = {}
    for check in unseen:
        groups.setdefault((check.host, check.reason("it")), []).append(check)
    for (host, why), checks in groups.items():
        reason = why if len(checks) == 1 else checks[0].reason("each")
        steps = ", ".join(check.step for check in checks)
        yield [("? ", "magenta"), (f"{host}: not checked: {steps}: {escaped(reason)}", "magenta")]
    if groups:
        yield []
