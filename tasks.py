"""What an operator runs: `invoke --list` is the table of contents."""

from __future__ import annotations

import sys
from typing import Any

from invoke import Collection, task

from dws_on_csm.commands import leftout
from dws_on_csm.display import console

leftout.allow()
console.guard()


def _site(hosts: Any, limit: str | None) -> Any:
    from dws_on_csm.config.load import from_hosts_option
    from dws_on_csm.config.site import HostsError
    from dws_on_csm.config.yaml_file import SiteError

    try:
        return from_hosts_option(hosts, limit)
    except (SiteError, HostsError) as error:
        console.note(error)
        sys.exit(2)


HELP = {
    "hosts": "a site file (has a / or ends in .yaml) or a node set of hosts.yaml's hosts; alone or left out: hosts.yaml",
    "limit": "a node set: only these hosts are changed",
    "bundle": "a file of bundle.make: everything from outside comes from it",
    "json": "JSON lines on standard output, and nothing else there",
    "yes": "answer yes where something is taken away",
    "verify": "submit the test job even if nothing was changed",
    "delete-persistent-storage": "delete users' storage with its data: all its names (a,b,c), or the number that a refusal prints",
}


def _deleting(site: Any, typed: str) -> tuple[Any, str]:
    """The site with what was typed of persistent storage, and the flag for the command that goes on from here."""
    from dataclasses import replace
    from shlex import quote

    return replace(site, deletes=typed), f" --delete-persistent-storage={quote(typed)}" if typed else ""


def _run(name: str, hosts: Any, limit: str | None, bundle: str = "", deletes: str = "", **options: Any) -> None:
    site, options["flags"] = _deleting(_site(hosts, limit), deletes)
    if bundle:
        from dws_on_csm.commands.bundle import attached

        site, flags = attached(site, bundle)
        options["flags"] += flags
    from dws_on_csm.runner.options import Options
    from dws_on_csm.runner.run import run
    from dws_on_csm.stages.install import procedure

    sys.exit(run(site, procedure(site), Options(task=name, **options)))


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts", "limit", "bundle", "json", "yes", "verify", "delete-persistent-storage")},
)
def install(  # type: ignore[no-untyped-def]
    c, hosts=None, limit=None, bundle="", json=False, yes=False, verify=False, delete_persistent_storage=""
):
    """Install DWS and its burst-buffer plugin, or put right what isn't, and prove it with a job."""
    _run("install", hosts, limit, bundle, delete_persistent_storage, json=json, yes=yes, verify=verify)


@task(optional=["hosts"], auto_shortflags=False, help={k: HELP[k] for k in ("hosts", "limit", "bundle", "json")})
def plan(c, hosts=None, limit=None, bundle="", json=False):  # type: ignore[no-untyped-def]
    """Show what an install would change, as differences; changes nothing."""
    _run("plan", hosts, limit, bundle, json=json, plan=True)


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts", "limit", "json")}
    | {"cancel": "cancel jobs in each state of their Workflow, and see what becomes of it"},
)
def verify(c, hosts=None, limit=None, json=False, cancel=False):  # type: ignore[no-untyped-def]
    """Prove what is installed with a test job, or with jobs that are cancelled; changes nothing."""
    from dataclasses import replace

    site = replace(_site(hosts, limit), limit=None)  # nothing is changed, so there is nothing to limit
    from dws_on_csm.runner.options import Options
    from dws_on_csm.runner.run import run
    from dws_on_csm.stages.verify import ALONE

    if cancel:
        from dws_on_csm.commands.verify_cancel.command import work
        from dws_on_csm.stages.cancel import STAGE

        right = "Cancelled jobs went as they are known to."
        sys.exit(run(site, (STAGE,), Options("verify", json=json, flags=" --cancel", right=right, work=work)))
    sys.exit(run(site, ALONE, Options(task="verify", verify=True, json=json, done="Proven.")))


PLAN = "show what would change, and change nothing"

UNDEPLOY = {
    "slurm": "first take the plugin, its kubeconfig and BurstBufferType from the controllers",
    "rbac": "at last take the plugin's role and binding away",
    "orphans": "delete Workflows whose job is gone",
    "all-jobs": "refuse while any job is in Slurm, not only those that use the burst buffer",
    "plan": "show what would go, and change nothing",
}


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help=UNDEPLOY | {k: HELP[k] for k in ("hosts", "limit", "json", "yes", "delete-persistent-storage")},
)
def undeploy(  # type: ignore[no-untyped-def]
    c,
    hosts=None,
    limit=None,
    slurm=False,
    rbac=False,
    orphans=False,
    all_jobs=False,
    json=False,
    yes=False,
    plan=False,
    delete_persistent_storage="",
):
    """Take DWS out of the cluster, unless a Workflow, a job or persistent storage still needs it."""
    site, deleting = _deleting(_site(hosts, limit), delete_persistent_storage)
    from dws_on_csm.runner.options import Options
    from dws_on_csm.runner.run import run
    from dws_on_csm.stages import undeploy as procedure

    given = {"slurm": slurm, "rbac": rbac, "orphans": orphans, "all_jobs": all_jobs}
    words = procedure.words(**given)
    told = (words["flags"] + deleting, words["done"], words["right"])
    options = Options("undeploy", plan, yes, json=json, flags=told[0], done=told[1], right=told[2])
    sys.exit(run(site, procedure.stages(**given), options))


@task(
    optional=["hosts"],
    positional=["name"],
    auto_shortflags=False,
    help={"name": "a run's id: this one in detail"} | {k: HELP[k] for k in ("hosts", "json")},
)
def journal(c, name="", hosts=None, json=False):  # type: ignore[no-untyped-def]
    """List the runs that the site has seen: when, who, what, how it ended, and what it changed where."""
    site = _site(hosts, None)
    from dws_on_csm.commands.history.journal import show

    sys.exit(show(site, name, json))


@task(
    optional=["hosts"],
    positional=["name"],
    auto_shortflags=False,
    help={"name": "a run's id; left out: the last that changed something", "plan": "show it, and change nothing"}
    | {k: HELP[k] for k in ("hosts", "limit", "json", "yes")},
)
def rollback(c, name="", hosts=None, limit=None, json=False, yes=False, plan=False):  # type: ignore[no-untyped-def]
    """Bring everything back to how it was before a run."""
    site = _site(hosts, limit)
    from dws_on_csm.commands.history.rollback import rollback as back
    from dws_on_csm.runner.options import Options

    sys.exit(back(site, name, Options(task="rollback", plan=plan, yes=yes, json=json)))


@task(optional=["hosts"], auto_shortflags=False, help={k: HELP[k] for k in ("hosts", "limit", "json")})
def show(c, hosts=None, limit=None, json=False):  # type: ignore[no-untyped-def]
    """Show each controller's certificate: whose, by whom, until when, and whether SlurmUser can use it."""
    site = _site(hosts, limit)
    from dws_on_csm.commands.certificates import show as table

    sys.exit(table(site, json))


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={"via": "who signs: ca (its key on the master) or csr (the cluster); left out: access.via", "plan": PLAN}
    | {k: HELP[k] for k in ("hosts", "limit", "json")},
)
def rotate(c, hosts=None, limit=None, via="", json=False, plan=False):  # type: ignore[no-untyped-def]
    """Give each controller a new key and certificate, while the plugin goes on working."""
    site = _site(hosts, limit)
    from dws_on_csm.commands import certificates
    from dws_on_csm.runner.run import run

    sys.exit(run(*certificates.rotating(site, via, plan=plan, json=json)))


@task(
    optional=["hosts"],
    positional=["name"],
    auto_shortflags=False,
    help={
        "name": "the common name; left out: whichever is in use beside the site file's access.common_name",
        "plan": PLAN,
    }
    | {k: HELP[k] for k in ("hosts", "json", "yes")},
)
def revoke(c, name="", hosts=None, json=False, yes=False, plan=False):  # type: ignore[no-untyped-def]
    """Give the controllers the site file's new common name, and the old one no rights any more."""
    site = _site(hosts, None)
    from dws_on_csm.commands import certificates
    from dws_on_csm.runner.run import run

    sys.exit(run(*certificates.revoking(site, name, plan=plan, json=json, yes=yes)))


@task(
    positional=["file"],
    optional=["hosts"],
    auto_shortflags=False,
    help={"file": "the bundle's path", "hosts": HELP["hosts"]},
)
def make_bundle(c, file, hosts=None):  # type: ignore[no-untyped-def]
    """Fetch all that an install of this site takes from outside, and write it as one file."""
    site = _site(hosts, None)
    from dws_on_csm.commands.bundle import make

    sys.exit(make(site, file))


@task(positional=["file"], auto_shortflags=False, help={"file": "the bundle's path"})
def show_bundle(c, file):  # type: ignore[no-untyped-def]
    """Check a bundle's checksums, and say what is in it."""
    from dws_on_csm.commands.bundle import show

    sys.exit(show(file))


@task(
    optional=["hosts", "yaml"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts", "json")}
    | {"yaml": "print this Workflow (bb12, NAMESPACE/bb12, or a job's number), or alone: all of them"},
)
def workflows(c, hosts=None, yaml=None, json=False):  # type: ignore[no-untyped-def]
    """List the Workflows with their jobs; orphans are marked."""
    site = _site(hosts, None)
    from dws_on_csm.commands.workflows import show

    sys.exit(show(site, yaml, json))


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts",)}
    | {
        "limit": "a node set: only the logs of these controllers, and of DWS's pods with the master",
        "job": "only what is about this job",
        "since": "how far back: 30s, 10m, 2h, 1d, or a time (2026-01-31T12:00)",
        "follow": "go on showing what comes, until Ctrl-C",
    },
)
def logs(c, hosts=None, limit=None, job=None, since="10m", follow=False):  # type: ignore[no-untyped-def]
    """Show what the plugin and DWS said, merged by time."""
    site = _site(hosts, limit)
    from dws_on_csm.commands.logs.command import logs as show

    sys.exit(show(site, job, since, follow))


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts", "json")}
    | {
        "limit": "a node set: only what is wrong on these hosts is told",
        "bundle": "write a support archive to this file (.tar.gz), without secrets",
    },
)
def doctor(c, hosts=None, limit=None, bundle=None, json=False):  # type: ignore[no-untyped-def]
    """Say what is wrong, by name, each with its fix; changes nothing."""
    site = _site(hosts, limit)
    from dws_on_csm.commands.doctor.command import doctor as examine

    sys.exit(examine(site, bundle, json))


@task
def demo(c):  # type: ignore[no-untyped-def]
    """Boot a site in a box, install DWS on it, and show a job's Workflow."""
    from lab.demo import demo as show
    from lab.tasks import errors

    with errors("demo"):
        sys.exit(show())


namespace = Collection(install, plan, verify, undeploy, workflows, logs, doctor, journal, rollback, demo)

certs = Collection("certs", rotate, revoke)
certs.add_task(show, default=True)
namespace.add_collection(certs)

bundles = Collection("bundle")
bundles.add_task(make_bundle, name="make")
bundles.add_task(show_bundle, name="show")
namespace.add_collection(bundles)

from lab.tasks import namespace as lab  # noqa: E402

namespace.add_collection(lab)
