"""The programs that are measured, each with the same work on the same hosts: this tool, plain ssh, pyinfra, Ansible, Fabric."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench.fleet import SLURM, Fleet
from bench.measure import Cost, run
from lab import cache

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).with_name("peers")
INSTALL = 600.0  # seconds that pip may take
CURVE = ("-o", "KexAlgorithms=curve25519-sha256")

Work = Literal["edit", "check"]
"""edit: slurm.conf is replaced where it differs; check: it is as it should be, and that is seen."""


@dataclass(frozen=True)
class Task:
    """What a client is to do: `work` on all hosts of `fleet`, so many at a time; `conf`: the file with the wanted text."""

    work: Work
    fleet: Fleet
    conf: Path
    bound: int

    @property
    def names(self) -> Path:
        """A file with a host a line."""
        file = self.fleet.folder / "names"
        file.write_text("".join(f"{host}\n" for host in self.fleet.hosts))
        return file


@dataclass(frozen=True)
class Client:
    """A program that can do the work.

    package  what pip installs for it, "" for nothing
    command  a task, and the folder of the program's own environment -> the command
    more     variables that the command gets
    """

    name: str
    package: str
    command: Callable[[Task, Path], Sequence[str]]
    more: Callable[[Task], Mapping[str, str]] = field(default=lambda task: {})

    @property
    def folder(self) -> Path:
        """The environment that pip installs into."""
        return cache.folder() / "bench" / self.package

    def install(self) -> None:
        """Install the newest version, where pip finds a newer one."""
        if not self.package:
            return
        if not (self.folder / "bin" / "pip").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", self.folder], check=True, timeout=INSTALL)
        options = ("--quiet", "--disable-pip-version-check", "--upgrade")
        pip = (str(self.folder / "bin" / "pip"), "install", *options, self.package)
        subprocess.run(pip, check=True, timeout=INSTALL)

    def version(self) -> str:
        """Its version, as the environment or the program says it."""
        if self.package:
            code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
            return _said(str(self.folder / "bin" / "python"), "-c", code, self.package)
        if self.name == PRODUCT.name:
            return _said("git", "-C", str(ROOT), "describe", "--always", "--dirty")
        return _said("ssh", "-V")

    def run(self, task: Task, deadline: float) -> Cost:
        """Do the work, and return what it cost. Raises measure.Failed."""
        home = task.fleet.folder / "client-home"
        home.mkdir(exist_ok=True)
        names = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
        try:
            return run(
                self.command(task, self.folder),
                cwd=ROOT if self is PRODUCT else home,
                env={**names, "HOME": str(home), **self.more(task)},
                deadline=deadline,
            )
        finally:
            for control in home.glob(".ansible/cp/*"):  # Ansible's connections stay open for the next run
                subprocess.run(
                    ["ssh", "-O", "exit", "-S", control, "-"], capture_output=True, timeout=INSTALL, check=False
                )


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=INSTALL)
    return (done.stdout or done.stderr).strip()


def _product(task: Task, environment: Path) -> Sequence[str]:
    site = task.fleet.folder / "site.yaml"
    hosts = ",".join(task.fleet.hosts)
    site.write_text(
        f"master: {{host: master}}\ncontrollers: [{{host: controller}}]\nslurm: {{folder: {SLURM}}}\n"
        f"ssh: {{config: {task.fleet.config}, connections: {task.bound}, user: root}}\n"
        f'computes: [{{hosts: "{hosts}", slurm_conf: edit}}]\nversions: {{dws: 0.0.20, plugin: 0.0.5, kube_rbac_proxy: v0.14.1}}\n'
    )
    return [sys.executable, "-m", "bench.product", str(site), str(task.conf)]


def _ssh(*options: str) -> Callable[[Task, Path], Sequence[str]]:
    def command(task: Task, environment: Path) -> Sequence[str]:
        words = (task.bound, task.fleet.config, task.names, task.conf, SLURM)
        return ["sh", str(PEERS / "ssh_loop.sh"), task.work, *map(str, words), *options]

    return command


def _fabric(task: Task, environment: Path) -> Sequence[str]:
    words = (task.bound, task.fleet.config, task.names, task.conf, SLURM)
    return [str(environment / "bin" / "python"), str(PEERS / "fabric_group.py"), task.work, *map(str, words)]


def _pyinfra(task: Task, environment: Path) -> Sequence[str]:
    inventory = task.fleet.folder / "inventory.py"
    data = {"ssh_config_file": str(task.fleet.config), "ssh_strict_host_key_checking": "yes"}
    data |= {"ssh_known_hosts_file": str(task.fleet.known_hosts), "ssh_user": "root", "ssh_key": str(task.fleet.key)}
    inventory.write_text(f"hosts = ({list(task.fleet.hosts)!r}, { ({**data, 'ssh_port': task.fleet.port})!r})\n")
    words = [str(environment / "bin" / "pyinfra"), "-y", "--parallel", str(task.bound)]
    return [*words, str(inventory), str(PEERS / "pyinfra_deploy.py")]


def _ansible(task: Task, environment: Path) -> Sequence[str]:
    more = ["-e", f"conf={task.conf}", "-e", f"folder={SLURM}", "-e", f"ansible_python_interpreter={sys.executable}"]
    return [
        str(environment / "bin" / "ansible-playbook"),
        *("-i", str(task.names), "-f", str(task.bound), *more),
        str(PEERS / "ansible_play.yaml"),
    ]


def _of_ansible(task: Task) -> Mapping[str, str]:
    arguments = f"-F {task.fleet.config} -o ControlMaster=auto -o ControlPersist=60s"
    return {"ANSIBLE_SSH_ARGS": arguments, "ANSIBLE_PIPELINING": "1", "LC_ALL": "C.UTF-8"}


def _of_pyinfra(task: Task) -> Mapping[str, str]:
    return {"CONF": str(task.conf), "FOLDER": str(SLURM)}


PRODUCT = Client("this tool", "", _product)
FLOOR = Client("ssh loop", "", _ssh())
FLOOR_CURVE = Client("ssh loop, curve25519", "", _ssh(*CURVE))
CLIENTS = (
    *(PRODUCT, FLOOR, FLOOR_CURVE),
    Client("pyinfra", "pyinfra", _pyinfra, _of_pyinfra),
    Client("Ansible", "ansible-core", _ansible, _of_ansible),
    Client("Fabric's ThreadingGroup", "fabric", _fabric),
)
