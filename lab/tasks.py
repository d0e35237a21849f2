"""`invoke lab.up | lab.build | lab.down | lab.status | lab.reset | lab.ssh`."""
# ruff: noqa: T201 - tasks speak to people

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from invoke import Collection, Context, Exit, task

if TYPE_CHECKING:
    from lab.model import Csm

NAME = "which lab; each has its own folder .lab-NAME and its own network"
UP_HELP = {
    "name": NAME,
    "dws_repo": "a git repository of DWS in place of the fake one",
    "plugin_repo": "a git repository of DWS's plugin for Slurm in place of the fake one",
    "image": "NAME:TAG=ARCHIVE, an OCI archive that the fake internet registries serve (can be given several times)",
    "slurm_root": "a Debian root with another Slurm for controllers and compute nodes",
    "old_api": "--no-old-api: a cert-manager that serves only v1, as 1.6 and newer do",
    "csm": "Slurm as CSM has it: in pods, its configuration generated. --csm: by a chart; --csm=operator: by an operator",
    "csm_release": "1.5 or 1.6: Kubernetes and cert-manager as that CSM has them; next: the newest (builds for 8 minutes once)",
    "slurm_clusters": "2: another Slurm cluster beside the first one, all on the host slurm2, with a site file of its own",
    "slurmctld_pod": "slurmctld in a pod (namespace user, label app=slurmctld) in place of the hosts slurmctl1 and 2",
}


def up(
    c: Context,
    name: str = "",
    dws_repo: str = "",
    plugin_repo: str = "",
    image: list[str] | None = None,
    slurm_root: str = "",
    old_api: bool = True,
    slurmctld_pod: bool = False,
    csm: str | bool = "",
    csm_release: str = "",
    slurm_clusters: int = 1,
) -> None:
    """Boot the cluster in a box, from any earlier state."""
    from lab import access, lifecycle, registry, requirements
    from lab.model import Options

    roots = _path(dws_repo), _path(plugin_repo), image_files(image or []), _path(slurm_root)
    with errors("lab.up"):
        requirements.programs_of_packages(announce := clock())
        options = Options(*roots, old_api, slurmctld_pod, _csm(csm, slurmctld_pod), _release(csm_release))
        lab = registry.create(name, replace(options, slurm_clusters=_clusters(slurm_clusters)))
        lifecycle.up(lab, announce)
        shown = os.path.relpath(lab.state)
        print(f"The lab is up: ssh -F {shown}/ssh_config {lab.hosts[0].name}; its site file is {shown}/hosts.yaml")
        if lab.role("slurm"):
            print(f"The second Slurm cluster has a site file of its own, {shown}/{access.SECOND}")


def build(c: Context, name: str = "") -> None:
    """Build the parts of labs into the cache: about 15 minutes the first time."""
    from lab import lifecycle, registry, requirements
    from lab.model import Options

    with errors("lab.build"):
        requirements.programs_of_packages(announce := clock())
        lifecycle.build(registry.create(name, Options()), announce)


def down(c: Context, name: str = "") -> None:
    """Remove the cluster in a box completely."""
    from lab import lifecycle, registry

    with errors("lab.down"):
        lab = registry.find(name) or registry.lost(name)
        if lab is None:
            print(f"{registry.folder(name)} has no lab: nothing to remove")
        else:
            lifecycle.down(lab)


def reset(c: Context, name: str = "") -> None:
    """Reset the site to its first state, in about ten seconds."""
    from lab import lifecycle, registry

    with errors("lab.reset"):
        lifecycle.reset(registry.existing(name), clock())


def status(c: Context, name: str = "") -> None:
    """Show the hosts and their problems; exit code 1 if there are any."""
    from lab import health, registry

    with errors("lab.status"):
        lab = registry.existing(name)
        report = health.look(lab)
        print(health.table(lab, report))
        if any(not host_health.well for host_health in report):
            raise Exit(code=1)


def ssh(c: Context, host: str, name: str = "", command: str = "", user: str = "root") -> None:
    """Log in to a host of the lab, or run a command there."""
    from lab import registry

    with errors("lab.ssh"):
        lab = registry.existing(name)
        lab.host(host)
        login = ["ssh", "-F", str(lab.state / "ssh_config"), "-l", user, host]
        raise Exit(code=subprocess.run([*login, *([command] if command else [])], check=False).returncode)


@contextmanager
def errors(title: str) -> Iterator[None]:
    """Show known errors without a traceback."""
    if os.geteuid() != 0:
        raise Exit(f"{title}: a lab needs root: run this as root", code=1)
    try:
        yield
    except (RuntimeError, OSError, LookupError, ValueError, subprocess.SubprocessError, ExceptionGroup) as error:
        several = error.exceptions if isinstance(error, ExceptionGroup) else (error,)
        raise Exit("\n".join(f"{title}: {_text(problem)}" for problem in several), code=1) from error
    except KeyboardInterrupt:
        raise Exit(f"{title} was interrupted: run invoke lab.up to continue", code=130) from None


def _text(error: BaseException) -> str:
    output = f"\n{error.stderr}" if isinstance(error, subprocess.CalledProcessError) and error.stderr else ""
    return f"{error.args[0] if isinstance(error, KeyError) else error}{output}"


def clock() -> Callable[[str], None]:
    """A function that prints a text with the seconds since now."""
    began = time.monotonic()

    def announce(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    return announce


def _path(given: str) -> Path | None:
    if given and not Path(given).exists():
        raise Exit(f"{given} does not exist", code=2)
    return Path(given).resolve() if given else None


def _csm(given: str | bool, slurmctld_pod: bool) -> "Csm":
    from lab.model import Csm

    flavour = "helm" if given is True else given or ""
    if flavour not in get_args(Csm):
        raise Exit(f"--csm={flavour}: expected helm or operator", code=2)
    if flavour and slurmctld_pod:
        raise Exit(
            "--csm and --slurmctld-pod exclude each other: with --csm, slurmctld and its backup run in pods", code=2
        )
    return cast(Csm, flavour)


def _release(given: str) -> str:
    from lab.releases import RELEASES

    if given not in RELEASES:
        raise Exit(f"--csm-release {given}: expected {', '.join(filter(None, RELEASES))}", code=2)
    return given


def _clusters(given: int) -> int:
    if given not in (1, 2):
        raise Exit(f"--slurm-clusters {given}: expected 1 or 2", code=2)
    return given


def image_files(given: list[str]) -> tuple[tuple[str, Path], ...]:
    """Name and archive of each --image NAME:TAG=ARCHIVE. Raises Exit."""
    pairs = [option.partition("=") for option in given]
    for name, equals, archive in pairs:
        if not equals or ":" not in name.rpartition("/")[2] or not Path(archive).is_file():
            raise Exit(f"--image {name}{equals}{archive}: expected NAME:TAG=ARCHIVE, where ARCHIVE is a file", code=2)
    return tuple((name, Path(archive).resolve()) for name, _, archive in pairs)


namespace = Collection(
    "lab",
    task(up, help=UP_HELP, iterable=["image"], optional=["csm"], auto_shortflags=False),
    task(build, help={"name": NAME}, auto_shortflags=False),
    task(down, help={"name": NAME}, auto_shortflags=False),
    task(reset, help={"name": NAME}, auto_shortflags=False),
    task(status, help={"name": NAME}, auto_shortflags=False),
    task(
        ssh,
        help={"name": NAME, "host": "a host", "command": "what to run there", "user": "root, admin, operator or joe"},
        auto_shortflags=False,
    ),
)
