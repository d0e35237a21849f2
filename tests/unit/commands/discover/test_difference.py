"""The difference of a site file and what was found: by meaning, and only where something was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from dws_on_csm.commands.discover.difference import differences

FOUND = """
master: {host: m}
controllers: [{host: c1}, {host: c2}]
computes: [{hosts: "n[1-2]"}]
ssh: {config: ssh_config}
versions: {dws: 0.0.20}
"""


@pytest.mark.parametrize(
    ("had", "lines"),
    [
        pytest.param(FOUND, [], id="same"),
        pytest.param(FOUND.replace("[{host: c1}, {host: c2}]", '[{host: "c[1-2]"}]'), [], id="node-set"),
        pytest.param(FOUND.replace('[{hosts: "n[1-2]"}]', '{hosts: "n1,n2"}'), [], id="one-group"),
        pytest.param(FOUND.replace("versions: {dws: 0.0.20}", ""), [], id="default"),
        pytest.param(FOUND + "test_job: {user: joe}\naccept: [clock-skew]\n", [], id="not-looked-for"),
        pytest.param(
            FOUND.replace("0.0.20", "0.1.12"), ["- versions.dws: 0.1.12", "+ versions.dws: 0.0.20"], id="value"
        ),
        pytest.param(FOUND.replace(", {host: c2}", ""), ["+ controllers[c2].host: c2"], id="controller-missing"),
        pytest.param(FOUND.replace("c2}", "c2}, {host: c3}"), ["- controllers[c3].host: c3"], id="controller-gone"),
    ],
)
def test_lines(tmp_path: Path, had: str, lines: list[str]) -> None:
    """Only what means something else is a line."""
    (tmp_path / "ssh_config").touch()
    file = tmp_path / "hosts.yaml"
    file.write_text(had)
    found = differences(file, file, FOUND)
    assert [line for line in found if ".host" in line or "controllers[" not in line] == lines
