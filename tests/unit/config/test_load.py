"""The site of a file, and the effect of `--hosts` and `--limit`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dws_on_csm.config.load import DEFAULT, from_hosts_option, load, narrow
from dws_on_csm.config.nodeset import expand
from dws_on_csm.config.site import HostsError, Site
from tests.unit.site_files import MINIMAL, RULES, write


def test_every_key_has_a_default_but_the_hosts(tmp_path: Path) -> None:
    """A file with a master and a controller is a complete site."""
    site = load(write(tmp_path, MINIMAL))
    assert [(host.name, host.role) for host in site.hosts()] == [("m", "master"), ("c", "controller")]
    assert (site.versions.dws, site.deadlines.deploy, site.computes, site.limit) == ("0.0.20", 120.0, (), None)
    assert (site.registry.secret_namespace, site.registry.secret_name) == ("nexus", "nexus-admin-credential")


def test_node_sets_become_hosts_in_the_files_order(tmp_path: Path) -> None:
    """Entries keep their order, and the hosts of a node set come sorted and padded."""
    site = load(write(tmp_path, "master: {host: m}\ncontrollers: [{host: z}, {host: 'a[09-10]'}]\n"))
    assert [host.name for host in site.controllers] == ["z", "a09", "a10"]


def test_how_many_controllers_of_an_entry_may_be_down(tmp_path: Path) -> None:
    """An entry's number holds for the hosts of its node set."""
    site = load(write(tmp_path, "master: {host: m}\ncontrollers: [{host: z}, {host: 'a[09-10]', may_be_down: 1}]\n"))
    assert [([host.name for host in group.hosts], group.may_be_down) for group in site.controller_groups] == [
        (["z"], 0),
        (["a09", "a10"], 1),
    ]


@pytest.mark.parametrize("computes", ["{hosts: 'n[1-2]'}", "[{hosts: 'n[1-2]'}]", "[{hosts: n1}, {hosts: n2}]"])
def test_computes_are_a_group_or_a_list_of_groups(tmp_path: Path, computes: str) -> None:
    """A single group needs no list around it."""
    site = load(write(tmp_path, f"{MINIMAL}computes: {computes}\n"))
    assert [host.name for host in site.hosts("compute")] == ["n1", "n2"]
    assert {group.slurm_conf for group in site.computes} == {"check"}


@pytest.mark.parametrize(("down", "hosts"), [("3", 3), ("5%", 2), ("'100%'", 50), ("0%", 0)])
def test_a_share_that_may_be_down_is_rounded_down(tmp_path: Path, down: str, hosts: int) -> None:
    """As a number, for 50 hosts."""
    site = load(write(tmp_path, f"{MINIMAL}computes: {{hosts: 'n[1-50]', may_be_down: {down}}}\n"))
    assert site.computes[0].may_be_down == hosts


def test_users_and_sudo_of_a_host_go_over_those_of_ssh(tmp_path: Path) -> None:
    """A host's own keys count for it, `false` included; other hosts have the values of ssh."""
    text = "master: {host: m, user: a, sudo: false}\ncontrollers: [{host: c}]\nssh: {user: b, sudo: true}\n"
    site = load(write(tmp_path, text))
    assert [(host.user, host.sudo) for host in site.hosts()] == [("a", False), ("b", True)]


def test_no_user_at_all_leaves_it_to_ssh_config(tmp_path: Path) -> None:
    """An empty user means the user from ssh_config."""
    assert {host.user for host in load(write(tmp_path, MINIMAL)).hosts()} == {""}


def test_paths_of_this_machine_are_the_files_siblings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths start at the site file's folder, `~` is the user's home, and a URL does not change."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for file in (tmp_path / "ssh_config", tmp_path / "home" / "ssh_config"):
        file.touch()
    digits = "AB" * 32

    def loaded(config: str, source: str) -> Site:
        sources = f"sources: {{kustomize: {{from: {source}, sha256: {digits}}}}}\n"
        return load(write(tmp_path, f"{MINIMAL}ssh: {{config: {config}}}\n{sources}"))

    one, two = loaded("ssh_config", "bin/kustomize"), loaded("~/ssh_config", "https://mirror/kustomize.tar.gz")
    assert (one.ssh.config, two.ssh.config) == (tmp_path / "ssh_config", tmp_path / "home" / "ssh_config")
    assert one.sources.kustomize and one.sources.kustomize.source == str(tmp_path / "bin/kustomize")
    assert one.sources.kustomize.sha256 == digits.lower()
    assert two.sources.kustomize and two.sources.kustomize.source == "https://mirror/kustomize.tar.gz"


def test_aliases_and_merges_are_followed(tmp_path: Path) -> None:
    """Keys of `<<` count unless the mapping has them itself; of several merged mappings the first counts."""
    text = (
        "master: &m {host: m, user: a, sudo: true}\n"
        "controllers: [&c {<<: *m, host: c1}, {<<: [{user: b}, *c], host: c2}, {<<: *c, host: c3, user: d}]\n"
    )
    site = load(write(tmp_path, text))
    assert [(host.user, host.sudo) for host in site.controllers] == [("a", True), ("b", True), ("d", True)]


def test_a_section_with_nothing_in_it_has_its_defaults(tmp_path: Path) -> None:
    """`access:` with all its keys commented out means the same as no `access`."""
    sections = [name for name, rule in RULES["properties"].items() if "null" in rule.get("type", ())]
    assert "access" in sections
    site = load(write(tmp_path, MINIMAL + "".join(f"{name}:\n" for name in sections)))
    assert site == load(write(tmp_path, MINIMAL))


def test_reading_a_site_needs_little_time_and_naming_tasks_less() -> None:
    """Importing the loader imports neither ClusterShell nor anything else that is slow."""
    code = "import sys, dws_on_csm.config.load; print([m for m in ('ClusterShell', 'difflib', 'fabric') if m in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=DEFAULT.parent)
    assert seen.stdout.strip() == "[]"


# --- narrowing


@pytest.fixture
def site(tmp_path: Path) -> Site:
    text = "master: {host: m}\ncontrollers: [{host: 'slurmctl[1-2]'}]\ncomputes: {hosts: 'nid[1-4]'}\n"
    return load(write(tmp_path, text))


def active(site: Site) -> list[str]:
    return [host.name for host in site.hosts() if site.active(host)]


def test_all_hosts_are_active_until_a_run_is_narrowed(site: Site) -> None:
    """Without a limit, all hosts are active."""
    assert active(site) == [host.name for host in site.hosts()]


def test_a_narrowed_site_keeps_its_hosts_and_changes_only_some(site: Site) -> None:
    """The master stays, for reading; only the named hosts may be changed, by name or as Host."""
    narrowed = narrow(site, "slurmctl1,nid[3-4]")
    assert active(narrowed) == ["slurmctl1", "nid3", "nid4"]
    assert narrowed.hosts() == site.hosts()
    assert narrowed.active("nid3") and not narrowed.active("m") and not narrowed.active(site.master.host)


def test_narrowing_twice_narrows_within_the_first(site: Site) -> None:
    """A second limit cannot add hosts that the first left out."""
    once = narrow(site, "nid[1-4]")
    assert active(narrow(once, "nid2")) == ["nid2"]
    with pytest.raises(HostsError, match=r"slurmctl1: not among the hosts selected so far"):
        narrow(once, "slurmctl1")


def test_unknown_hosts_are_refused_by_name(site: Site, tmp_path: Path) -> None:
    """The error names each unknown host, with a similar name."""
    with pytest.raises(HostsError) as error:
        narrow(site, "slurmctl[1-3],elsewhere")
    first, second = str(error.value).splitlines()
    assert first == f"elsewhere: not a host of {tmp_path}/hosts.yaml"
    assert second.startswith(f"slurmctl3: not a host of {tmp_path}/hosts.yaml; did you mean slurmctl")


@pytest.mark.parametrize("nodeset", ["nid[1-", "@all", "*", "-x", "nid[1-999999999]", "nid1!nid1"])
def test_an_invalid_node_set_is_refused(site: Site, nodeset: str) -> None:
    """The error shows the node set and what is wrong with it."""
    with pytest.raises(HostsError, match=re.escape(f"{nodeset!r} is not a node set: ")):
        narrow(site, nodeset)


def test_a_host_is_found_by_its_name(site: Site) -> None:
    """The error has the file's name and a similar host."""
    assert site.host("nid2").role == "compute"
    with pytest.raises(
        HostsError, match=r"^slurmctl: not a host of .*hosts.yaml; did you mean slurmctl. or slurmctl.\?$"
    ):
        site.host("slurmctl")


@pytest.mark.parametrize("value", [None, True, False, ""])
def test_hosts_without_a_value_is_the_default_file(site: Site, value: str | bool | None) -> None:
    """`--hosts` alone and no `--hosts` mean the same."""
    assert from_hosts_option(value, None, site.path) == site


@pytest.mark.parametrize("form", ["{folder}/hosts.yaml", "hosts.yaml", "./hosts.yaml", "{folder}/../{name}/hosts.yaml"])
def test_hosts_with_a_slash_or_yaml_is_a_path(site: Site, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is relative to the current folder, whatever the default is."""
    monkeypatch.chdir(site.path.parent)
    value = form.format(folder=site.path.parent, name=site.path.parent.name)
    assert from_hosts_option(value, None, Path("/nowhere")).hosts() == site.hosts()
    assert active(from_hosts_option(value, "m", Path("/nowhere"))) == ["m"]


def test_any_other_value_narrows_the_default_file(site: Site) -> None:
    """A node set is taken from the default file's hosts, and --limit within it."""
    assert active(from_hosts_option("slurmctl[1-2]", None, site.path)) == ["slurmctl1", "slurmctl2"]
    assert active(from_hosts_option("slurmctl[1-2]", "slurmctl2", site.path)) == ["slurmctl2"]
    with pytest.raises(HostsError, match=r"hosts.yml: not a host"):
        from_hosts_option("hosts.yml", None, site.path)


@pytest.mark.parametrize(
    ("nodeset", "hosts"),
    [
        ("fd00::1", ["fd00::1"]),
        ("10.0.0.1", ["10.0.0.1"]),
        ("a[1-2]b[1-2]", ["a1b1", "a1b2", "a2b1", "a2b2"]),
        ("n[1-9/4]", ["n1", "n5", "n9"]),
        ("n[1-3]!n2", ["n1", "n3"]),
        ("web.example.com,b", ["b", "web.example.com"]),
    ],
)
def test_node_sets_are_clustershells(nodeset: str, hosts: list[str]) -> None:
    """Addresses, several ranges, steps and differences work as in ClusterShell."""
    assert list(expand(nodeset)) == hosts
