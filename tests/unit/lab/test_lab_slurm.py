"""The layers of the lab's Slurm hosts, written over a root that has nothing but accounts."""

from pathlib import Path

import pytest

from lab import slurm
from lab.model import Lab, Options

PASSWD = "root:x:0:0:root:/root:/bin/bash\nmunge:x:107:109::/nonexistent:/usr/sbin/nologin\n"
PING = "Slurmctld(primary) at slurmctl1 is UP\nSlurmctld(backup) at slurmctl2 is UP\n"


def lab_over(folder: Path, passwd: str) -> Lab:
    root = folder / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(passwd)
    return Lab("test", folder / "state", 1, Options(slurm_root=root))


def written(lab: Lab) -> dict[str, Path]:
    folders = {host.name: lab.folder(host) / "layer" for host in lab.hosts if host.runs_slurm}
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        slurm.write_layer(lab, lab.host(name), folder)
    return folders


@pytest.fixture
def layers(tmp_path: Path) -> dict[str, Path]:
    return written(lab_over(tmp_path, PASSWD))


def test_all_slurm_hosts_have_the_same_configuration_and_munge_key(layers: dict[str, Path]) -> None:
    """Slurm compares checksums of slurm.conf, and munge trusts only who has the same key."""
    for path in ("etc/slurm/slurm.conf", "etc/slurm/nodes.conf", "etc/slurm/cgroup.conf", "etc/munge/munge.key"):
        assert len({(folder / path).read_bytes() for folder in layers.values()}) == 1, path


def test_the_munge_key_belongs_to_the_munge_of_the_root_alone(layers: dict[str, Path]) -> None:
    """munged refuses a key that others can read, and account numbers differ from root to root."""
    for folder in layers.values():
        stat = (folder / "etc/munge/munge.key").stat()
        assert (stat.st_uid, stat.st_gid, stat.st_mode & 0o777, stat.st_size) == (107, 109, 0o400, 128)


def test_each_host_starts_the_daemon_of_its_role(layers: dict[str, Path]) -> None:
    """Controllers run slurmctld, compute nodes slurmd, all of them munge."""
    wants = "etc/systemd/system/multi-user.target.wants"
    started = {name: {link.name for link in (folder / wants).iterdir()} for name, folder in layers.items()}
    controller, compute = {"munge.service", "slurmctld.service"}, {"munge.service", "slurmd.service"}
    assert started == {
        "slurmctl1": controller,
        "slurmctl2": controller,
        "nid000001": compute,
        "nid000002": compute,
    }


def test_only_the_backup_waits_for_the_primary(layers: dict[str, Path]) -> None:
    """A primary that waited for its own heartbeat would never start."""
    path = "etc/systemd/system/slurmctld.service.d/after-primary.conf"
    assert [name for name, folder in layers.items() if (folder / path).exists()] == ["slurmctl2"]


def test_the_configuration_asks_for_no_burst_buffer(layers: dict[str, Path]) -> None:
    """A new site is one without DWS: only the product adds that line."""
    text = "".join(path.read_text() for path in (layers["slurmctl1"] / "etc/slurm").iterdir())
    assert "burst" not in text.lower()


def test_what_a_root_has_in_etc_slurm_goes_before_ours(tmp_path: Path) -> None:
    """Another Slurm may refuse a setting of ours: 22.05 knows no CgroupPlugin=disabled."""
    lab = lab_over(tmp_path, PASSWD)
    (tmp_path / "root/etc/slurm").mkdir()
    (tmp_path / "root/etc/slurm/cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    for folder in written(lab).values():
        assert sorted(path.name for path in (folder / "etc/slurm").iterdir()) == ["nodes.conf", "slurm.conf"]


def test_a_root_without_munge_is_refused_by_name(tmp_path: Path) -> None:
    """If a given root lacks something, the error names it."""
    with pytest.raises(LookupError, match=r"no account munge in .*/root/etc/passwd"):
        written(lab_over(tmp_path, "root:x:0:0:root:/root:/bin/bash\n"))


@pytest.mark.parametrize(
    ("said", "ready"),
    [
        (PING + "idle\nidle\n", True),
        (PING + "idle*\nidle*\n", False),  # in the state file, but they have not spoken yet
        (PING + "unk\nidle\n", False),
        (PING.replace("slurmctl2 is UP", "slurmctl2 is DOWN") + "idle\nidle\n", False),
        (PING, False),
        ("slurm_load_partitions: Unable to contact slurm controller (connect failure)\n", False),
        ("", False),
    ],
)
def test_a_site_is_ready_when_both_controllers_answer_and_both_nodes_are_idle(said: str, ready: bool) -> None:
    """What `scontrol ping` and sinfo print decides, word by word."""
    assert slurm.settled(said, 2) is ready
