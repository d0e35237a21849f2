"""The doctor's metrics: Prometheus' own parser reads them, and node_exporter may."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dws_on_csm.commands.doctor import metrics
from dws_on_csm.commands.doctor.diagnosis import Diagnosis, HostFinding, Unseen
from dws_on_csm.model.step import Facts, Finding
from dws_on_csm.stages.facts import API_SERVER, KUBECONFIG
from tests.unit.authority import authority, found
from tests.unit.commands.test_command_line import typed

ODD = 'c"1\\\n\udcff'
"""A name with all that has to be escaped."""


def diagnosis(*findings: HostFinding) -> Diagnosis:
    accepted = (HostFinding("m", Finding("clock-skew", "text", "fix")),)
    return Diagnosis(findings, accepted, (Unseen("c1", "plugin.lua", "why"),), (), 30)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Name and labels (without the site) -> value, by Prometheus' parser."""
    return {
        (
            sample.name.removeprefix("dws_on_csm_"),
            tuple((k, v) for k, v in sorted(sample.labels.items()) if k != "site"),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_what_the_doctor_found() -> None:
    """Findings by name and host, checks that could not be made, certificates' ends, and when the doctor ran and how long."""
    found = HostFinding("c1", Finding("plugin-missing", "a text\nwith lines", "fix"))
    text = metrics.text("/site.yaml", diagnosis(found, found), {"c1": 1.8e9}, 1.7e9, 12.5)
    assert samples(text) == {
        ("doctor_finding", (("accepted", "false"), ("host", "c1"), ("name", "plugin-missing"))): 2,
        ("doctor_finding", (("accepted", "true"), ("host", "m"), ("name", "clock-skew"))): 1,
        ("doctor_findings", ()): 2,
        ("doctor_unseen_check", (("host", "c1"), ("step", "plugin.lua"))): 1,
        ("doctor_unseen_checks", ()): 1,
        ("doctor_checks", ()): 30,
        ("certificate_expiry_timestamp_seconds", (("host", "c1"),)): 1.8e9,
        ("doctor_last_run_timestamp_seconds", ()): 1.7e9,
        ("doctor_duration_seconds", ()): 12.5,
    }
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} == {"gauge"} and all(family.documentation for family in families)
    assert {sample.labels["site"] for family in families for sample in family.samples} == {"/site.yaml"}


def test_a_name_cannot_add_a_line() -> None:
    """Quotes, backslashes and line ends in a host's name or a path are escaped; no finding leaves its count at 0."""
    text = metrics.text(ODD, diagnosis(), {ODD: 1.0}, 1.0, 1.0)
    (at,) = [labels for name, labels in samples(text) if name == "certificate_expiry_timestamp_seconds"]
    assert at == (("host", 'c"1\\\n?'),)
    assert samples(text)["doctor_findings", ()] == 0


def test_the_file_is_replaced_atomically_and_readable(tmp_path: Path) -> None:
    """Whatever the umask: node_exporter runs as a user of its own. Nothing else is left in the folder."""
    file = tmp_path / "dws.prom"
    file.write_text("before\n")
    with file.open() as reader:
        before = os.umask(0o077)
        try:
            metrics.write(file, "after\n")
        finally:
            os.umask(before)
        assert (reader.read(), file.read_text()) == ("before\n", "after\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644 and list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_former_file(tmp_path: Path) -> None:
    """As on a full disk; here a folder is in the file's place."""
    (tmp_path / "dws.prom").mkdir()
    with pytest.raises(OSError):
        metrics.write(tmp_path / "dws.prom", "after\n")
    assert [path.name for path in tmp_path.iterdir()] == ["dws.prom"]


@pytest.mark.slow
def test_a_place_that_node_exporter_would_not_read_is_refused_first(tmp_path: Path) -> None:
    """Before any host is contacted, with exit code 2."""
    for name, words in (("x.txt", "does not end with .prom"), ("no/x.prom", "is not a folder that you can write to")):
        ended = typed(f"invoke doctor --hosts SITE --metrics {tmp_path}/{name}", tmp_path)
        assert ended.returncode == 2 and words in ended.stderr


def test_the_end_of_a_certificate_is_that_of_the_one_in_the_kubeconfig() -> None:
    """Or of the CA, where that ends first; a controller without a readable certificate has no sample."""
    ca = authority(days=100)
    files = {"c1": found(ca.sign("x", 50)), "c2": found(ca.sign("x", 500)), "c3": found(b"")}
    server = {"m": {"ca": ca.certificate.decode()}}
    facts = Facts({KUBECONFIG.name: files, API_SERVER.name: server})
    reading: Any = SimpleNamespace(run=SimpleNamespace(board=SimpleNamespace(facts=facts)))
    days = {host: round((end - time.time()) / 86400) for host, end in metrics.expiries(reading).items()}
    assert days == {"c1": 50, "c2": 100}
