"""Which versions work together: the table, and how it is read."""

import pytest

from dws_on_csm.domain.compatibility import TABLE, broken, findings, within

FITS = {
    "plugin": "0.0.5",
    "dws": "0.0.20",
    "slurm": "23.11.4",
    "lua": "5.4",
    "cert-manager": "1.5.5",
    "kubernetes": "1.24.17",
}


@pytest.mark.parametrize(
    ("version", "span", "holds"),
    [
        ("23.02.0", ">=23.02", True),
        ("22.05.8", ">=23.02", False),
        ("24.05", "<24.05", False),
        ("24.05.0-rc1", "<24.05", False),
        ("0.1.12", ">=0.0.5 <0.1.13", True),
        ("0.0.5", "0.0.5", True),
        ("v0.0.5", "0.0.5", True),
        ("0.0.51", "0.0.5", False),
    ],
)
def test_versions_are_compared_as_numbers(version: str, span: str, holds: bool) -> None:
    """A version is in a range if every comparison is true, number by number."""
    assert within(version, span) is holds


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({}, []),
        ({"slurm": "22.05.8"}, ["slurm-too-old"]),
        ({"slurm": "24.11.5"}, ["hooks-missing"]),
        ({"lua": "5.1"}, ["slurm-lua-5.1"]),
        ({"dws": "0.1.13"}, ["dws-too-new"]),
        ({"plugin": "0.0.4"}, ["plugin-too-old"]),
        ({"cert-manager": "1.12.9"}, ["cert-manager-v1"]),
        ({"kubernetes": "1.19.9"}, ["kubernetes-too-old"]),
        ({"slurm": ""}, []),
    ],
)
def test_each_row_is_broken_by_what_it_excludes(change: dict[str, str], names: list[str]) -> None:
    """One version out of its range breaks its row only; an unknown version breaks nothing."""
    assert [row.name for row in broken(FITS | change)] == names


def test_a_row_with_a_remedy_is_no_finding() -> None:
    """A row with a remedy is no finding; any other row is one, with the versions, the reason and a fix."""
    assert findings(FITS | {"slurm": "24.11.5", "cert-manager": "1.12.9"}) == []
    (one,) = findings(FITS | {"slurm": "22.05.8"}, "slurmctl1")
    assert one.name == "slurm-too-old"
    assert "22.05.8 on slurmctl1" in one.text
    assert "job_info" in one.text
    assert one.fix


def test_every_row_has_its_source_and_a_way_out() -> None:
    """A row has its source, and either a fix for people or a remedy of this tool."""
    for row in TABLE:
        assert row.source
        assert bool(row.fix) != bool(row.remedy) or row.name == "dws-too-new", row.name


def test_a_remedy_that_the_site_declines_is_none() -> None:
    """Where the site file says that the plugin's file stays as it is, its DWS is a finding, with both ways out."""
    assert findings(FITS | {"dws": "0.1.17"}) == []
    (finding,) = findings(FITS | {"dws": "0.1.17"}, declined=["dws-too-new"])
    assert "plugin.workflow_version: auto" in finding.fix and "0.1.12 or older" in finding.fix
