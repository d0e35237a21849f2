"""What a lab refuses and what it says: names, networks, options, a machine that can't carry it."""

import os
from pathlib import Path
from typing import Any

import pytest
from invoke import Exit

from lab import cgroups, go_builds, lifecycle, machine, network, registry, requirements, tasks
from lab.model import Lab, Options


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout without labs, on a machine with one network and no lab."""
    monkeypatch.setattr(registry, "CHECKOUT", tmp_path)
    monkeypatch.setattr(registry, "TAKEN", tmp_path / "taken")
    monkeypatch.setattr(network, "owners", dict)
    monkeypatch.setattr(network, "addresses", lambda: ["192.168.1.5/24"])
    return tmp_path


def test_the_folder_of_the_default_lab_is_dot_lab(checkout: Path) -> None:
    """The default lab has the network 10.77.0.0/24 and the folder .lab; the next one a network of its own."""
    first, second = registry.create("", Options()), registry.create("two", Options())
    assert (first.state, first.index) == (checkout / ".lab", 0)
    assert (second.state, second.index) == (checkout / ".lab-two", 1)
    assert registry.existing("two") == second


@pytest.mark.parametrize("name", ["Two", "a/b", "-x", "a" * 21, "a b"])
def test_a_bad_name_is_refused(checkout: Path, name: str) -> None:
    """A name that cannot be a folder and a device is refused, with the rule."""
    with pytest.raises(ValueError, match="lowercase letters"):
        registry.folder(name)


def test_networks_of_others_stay_unchanged(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that another checkout's lab or the machine itself has is not taken."""
    monkeypatch.setattr(network, "owners", lambda: {0: "/elsewhere/.lab"})
    monkeypatch.setattr(network, "addresses", lambda: ["10.77.1.9/24", "10.77.2.0/23"])
    assert registry.create("", Options()).index == 4


def test_labs_of_other_checkouts_keep_their_networks(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab that another checkout has just made, whose network is not there yet, has its index; one that is gone has none."""
    first = registry.create("", Options())
    monkeypatch.setattr(registry, "CHECKOUT", checkout / "other")
    second = registry.create("", Options())
    assert (first.index, second.index) == (0, 1)
    registry.release(first)
    assert registry.create("x", Options()).index == 2
    (second.state / "lab.json").unlink()
    assert registry.taken_elsewhere() == {2}


def test_a_lab_whose_network_another_has_touches_nothing_of_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own up is refused with what to do, and its down takes its files alone."""
    made = registry.create("x", Options())
    monkeypatch.setattr(network, "owners", lambda: {made.index: "/elsewhere/.lab"})
    ip, called = checkout / "programs" / "ip", checkout / "called"
    ip.parent.mkdir()
    ip.write_text(f'#!/bin/sh\necho "$*" >>{called}\n')
    ip.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ip.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(machine, "kill", lambda lab, host: pytest.fail(f"{host.name} is another lab's"))
    with pytest.raises(RuntimeError, match=r"10\.77\.1\.0/24 is now the network of /elsewhere/\.lab: lab\.down"):
        network.ensure(made)
    lifecycle.down(made)
    assert not made.state.exists() and not called.exists()


def test_a_lab_without_its_folder_is_found_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab whose folder was removed while its hosts ran gets the same index again."""
    monkeypatch.setattr(network, "owners", lambda: {9: str(checkout / ".lab-x")})
    lost = registry.lost("x")
    assert lost is not None
    assert lost.index == registry.create("x", Options()).index == 9
    assert registry.lost("y") is None


def test_a_network_of_another_checkout_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If two labs chose the same network at the same time, the second one gets an error, and removes nothing."""
    monkeypatch.setattr(network, "owners", lambda: {9: "/elsewhere/.lab"})
    monkeypatch.setattr(network, "remove", lambda lab: pytest.fail("a network of another lab's was taken away"))
    with pytest.raises(RuntimeError, match=r"network of /elsewhere/\.lab: lab\.down and lab\.up"):
        network.ensure(Lab("x", tmp_path, 9))


def test_options_are_kept_and_no_others_taken(checkout: Path) -> None:
    """A lab remembers its options; up without options uses them, up with other options is refused with the fix."""
    options = Options(dws_repo=Path("/srv/dws"), images=(("ghcr.io/x/dws:1", Path("/srv/dws.tar")),), old_api=False)
    made = registry.create("true", options)
    assert made.options == registry.create("true", Options()).options == options
    with pytest.raises(ValueError, match=r"invoke lab\.down first"):
        registry.create("true", Options(dws_repo=Path("/srv/other")))


def test_a_missing_lab_is_reported_with_the_fix(checkout: Path) -> None:
    """The error for a lab that does not exist says how to make it."""
    with pytest.raises(LookupError, match=r"invoke lab\.up --name two"):
        registry.existing("two")


def test_all_missing_programs_are_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All problems of a machine are in one error, each with its fix."""
    monkeypatch.setattr(requirements, "PACKAGES", {})
    monkeypatch.setattr(requirements, "MEMORY", 1 << 60)
    monkeypatch.setattr(requirements, "DISK_STATE", 1 << 60)
    monkeypatch.setattr(go_builds, "OLDEST_GO", (99, 0))
    state = tmp_path / "a b"
    state.mkdir()
    with pytest.raises(requirements.NeedsError) as caught:
        requirements.meet(Lab("x", state, 3), lambda text: None)
    said = str(caught.value)
    for part in ("memory", "make room", "go.dev/dl", "move the checkout"):
        assert part in said


def test_only_root_makes_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root, the error says so before anything is tried."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(requirements.NeedsError, match="run this as root"):
        requirements.meet(Lab("x", tmp_path, 3), lambda text: None)


def test_a_limit_that_is_too_low_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fs.inotify.max_user_instances is raised when it is too low for a lab, and left alone when it is not."""
    limit = tmp_path / "max_user_instances"
    monkeypatch.setattr(requirements, "INSTANCES", limit)
    for before, after in (("128\n", 1024), ("4096\n", 4096)):
        limit.write_text(before)
        assert requirements.why_few_inotify() == ""
        assert int(limit.read_text()) == after


def test_this_machines_control_groups_are_found() -> None:
    """Every hierarchy in which a host gets a group is there, and holds this very process."""
    own = {str(group) for group in cgroups.hierarchies()}
    assert own
    assert all((Path(group) / "cgroup.procs").exists() for group in own)


@pytest.mark.parametrize("given", ["dws:1", "dws=/etc/hostname", "dws:1=/nonexistent"])
def test_a_wrong_image_option_shows_the_expected_form(given: str) -> None:
    """--image without a tag, an archive or a file is refused with its form."""
    with pytest.raises(Exit, match="expected NAME:TAG=ARCHIVE"):
        tasks.image_files([given])


def test_an_image_option_is_taken_apart() -> None:
    """--image's name may hold a registry's port."""
    assert tasks.image_files(["reg:5000/dws:1=/etc/hostname"]) == (("reg:5000/dws:1", Path("/etc/hostname")),)


@pytest.mark.parametrize(
    ("error", "said"),
    [(KeyError("no host x"), "no host x"), (ExceptionGroup("several", [ValueError("a"), ValueError("b")]), "b")],
)
def test_errors_are_shown_without_a_traceback(error: Exception, said: str) -> None:
    """A known error ends a task with only its text; several errors with all their texts."""
    with pytest.raises(Exit, match=said), tasks.errors("lab.up"):
        raise error


def test_each_reports_every_failure() -> None:
    """When several hosts fail at once, all failures are in the error."""

    def act(host: Any) -> None:
        raise RuntimeError(host.name)

    hosts = Lab("x", Path("/nonexistent"), 3).hosts[:2]
    with pytest.raises(ExceptionGroup) as caught:
        lifecycle.each(hosts, act)
    assert [str(error) for error in caught.value.exceptions] == [host.name for host in hosts]
