"""The commands that an operator runs; `invoke --list` shows them.

Imports stand inside the functions, because `invoke --list`, a help or a wrong command line must not load Fabric, Paramiko,
kubernetes, rich, the stages or the runner: so it answers at once (tests/unit/test_start.py).
"""

from __future__ import annotations

import sys
from typing import Any

from invoke import Collection, Context, task

from dws_on_csm.commands import command_line
from dws_on_csm.display import console

command_line.install()
console.guard()


def _site(hosts: Any, limit: str | None) -> Any:
    """The site, with the first of its masters that answers."""
    site = _site_file(hosts, limit)
    if not site.master.several:
        return site
    from dws_on_csm.runner import masters

    return masters.choose(site)


def _site_file(hosts: Any, limit: str | None) -> Any:
    """The site, without a look at any host."""
    from dws_on_csm.config.load import from_hosts_option
    from dws_on_csm.config.site import HostsError
    from dws_on_csm.config.yaml_file import SiteError

    try:
        return from_hosts_option(hosts, limit)
    except (SiteError, HostsError) as error:
        command_line.exit_usage(error)


PLAN = "show what would change; change nothing (also --check, --dry-run)"


def _only(site: Any, host: str) -> Any:
    from dws_on_csm.config.site import HostsError
    from dws_on_csm.runner.read_only import only

    try:
        return only(site, host)
    except HostsError as error:
        command_line.exit_usage(error)


HELP = {
    "hosts": "a site file (a path with a / or ending in .yaml), or a node set of hosts in hosts.yaml (default: hosts.yaml)",
    "limit": "change only these hosts (a node set)",
    "bundle": "install from this offline bundle (made by bundle.make); download nothing",
    "json": "write JSON lines, and nothing else, to standard output",
    "yes": "do not ask before removing anything or restarting slurmctld (also -y)",
    "plan": PLAN,
    "diff": "show new files whole, not as their number of lines",
    "verbose": "show each action and what it prints, in lines also on a terminal (also -v)",
    "prepare": "do everything that no running job or user notices; leave restarts and replacements for a change window",
    "verify": "submit the test job even if nothing changed",
    "delete-persistent-storage": "delete users' storage and its data: all names (a,b), or the code that the refusal shows",
}


def _deleting(site: Any, typed: str) -> tuple[Any, list[str]]:
    """The site with the persistent storage that may be deleted, and the option that repeats this."""
    from dataclasses import replace

    if typed and site.external:
        command_line.exit_usage(
            "--delete-persistent-storage: somebody else deploys DWS here (dws: external), so this tool deletes no storage."
        )
    return replace(site, deletes=typed), [f"--delete-persistent-storage={typed}"] if typed else []


def _preparing(prepare: bool) -> dict[str, Any]:
    """The options of a run that only prepares; none for another."""
    unchanged = "Everything that --prepare does is done."
    return (
        {
            "prepare": True,
            "changed_text": "Prepared. Nothing is left for the change window.",
            "unchanged_text": unchanged,
        }
        if prepare
        else {}
    )


def _run(name: str, hosts: Any, limit: str | None, bundle: str = "", deletes: str = "", **options: Any) -> None:
    site, words = _deleting(_site(hosts, limit), deletes)
    if bundle:
        from dws_on_csm.commands.bundle import attached

        site, words = attached(site, bundle), [*words, "--bundle", bundle]
    from dws_on_csm.runner.options import Options
    from dws_on_csm.runner.run import run
    from dws_on_csm.stages.install import procedure

    sys.exit(run(site, procedure(site), Options(task=name, words=words, **options)))


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={
        k: HELP[k]
        for k in (
            "hosts",
            "limit",
            "bundle",
            "json",
            "yes",
            "plan",
            "verify",
            "prepare",
            "diff",
            "verbose",
            "delete-persistent-storage",
        )
    },
)
def install(
    c: Context,
    hosts: str | bool | None = None,
    limit: str | None = None,
    bundle: str = "",
    json: bool = False,
    yes: bool = False,
    plan: bool = False,
    verify: bool = False,
    prepare: bool = False,
    diff: bool = False,
    verbose: bool = False,
    delete_persistent_storage: str = "",
) -> None:
    """Install DWS and its burst-buffer plugin, or correct what differs; verify with a test job."""
    if prepare and verify:
        command_line.exit_usage(
            "--prepare submits no test job: omit --verify, or give it to the install in the change window."
        )
    if prepare and delete_persistent_storage:
        command_line.exit_usage(
            "--prepare removes nothing that is in use: give --delete-persistent-storage to the install in the change window."
        )
    name, options = ("plan", {"plan": True}) if plan else ("install", {"yes": yes, "verify": verify})
    options |= _preparing(prepare)
    _run(name, hosts, limit, bundle, delete_persistent_storage, json=json, diff=diff, verbose=verbose, **options)


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts", "limit", "bundle", "json", "diff")}
    | {"prepare": "show what install --prepare would change, and what it would leave for the change window"},
)
def plan(
    c: Context,
    hosts: str | bool | None = None,
    limit: str | None = None,
    bundle: str = "",
    json: bool = False,
    diff: bool = False,
    prepare: bool = False,
) -> None:
    """Show what install would change, as differences; change nothing."""
    _run("plan", hosts, limit, bundle, json=json, plan=True, diff=diff, **_preparing(prepare))


@task(
    auto_shortflags=False,
    help={
        "master": "a master of the cluster, HOST or USER@HOST (default: ncn-m001)",
        "out": "the file to write (default: site.yaml, or site-NAME.yaml with --cluster NAME); it must not exist yet",
        "diff": "write nothing; show how this site file differs from what is found",
        "cluster": "choose one of several Slurms by its name, as the list shows them",
        "controllers": "look for slurmctld on these hosts (a node set) instead of in pods and on hosts that the master names",
        "user": "log in as this user (default: that of ssh_config, or your own name; then root)",
        "sudo": "log in with sudo, also where the login would be root's (default: where the user is not root)",
        "ssh-config": "use this ssh_config, and name it in the site file (default: ~/.ssh/config and the system's)",
        "json": HELP["json"],
    },
)
def discover(
    c: Context,
    master: str = "",
    out: str = "",
    diff: str = "",
    cluster: str = "",
    controllers: str = "",
    user: str = "",
    sudo: bool = False,
    ssh_config: str = "",
    json: bool = False,
) -> None:
    """Look at a site through its master and write its site file; change nothing on any host."""
    from dws_on_csm.commands.discover.command import Options
    from dws_on_csm.commands.discover.command import discover as find

    sys.exit(find(Options(master, out, diff, cluster, controllers, user, sudo, ssh_config, json)))


@task(
    optional=["hosts"],
    positional=["file"],
    auto_shortflags=False,
    help={"file": "the site file, as with --hosts"} | {k: HELP[k] for k in ("hosts", "limit")},
)
def check(c: Context, file: str = "", hosts: str | bool | None = None, limit: str | None = None) -> None:
    """Check the site file and show what it says; contact no host."""
    from pathlib import Path

    if file and hosts is not None:
        command_line.exit_usage(f"{file} and --hosts both name a site file. Give one of them.")
    site = _site_file(str(Path(file).expanduser().absolute()) if file else hosts, limit)
    from dws_on_csm.commands.check import show

    sys.exit(show(site))


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts", "json", "verbose")}
    | {
        "limit": "has no effect: verify changes no host",
        "cancel": "cancel jobs, held, waiting and running, and check what becomes of each Workflow",
        "all": "with --cancel: in each state of the Workflow; a test driver of this tool holds it there",
    },
)
def verify(
    c: Context,
    hosts: str | bool | None = None,
    limit: str | None = None,
    json: bool = False,
    cancel: bool = False,
    verbose: bool = False,
    all: bool = False,  # the option's name
) -> None:
    """Verify the installation with a test job (--cancel: with jobs that it cancels); change nothing."""
    if all and not cancel:
        command_line.exit_usage("--all belongs to --cancel: `invoke verify --cancel --all`.")
    from dataclasses import replace
    from functools import partial

    site = replace(_site(hosts, limit), limit=None)  # nothing is changed, so there is nothing to limit
    from dws_on_csm.runner.options import Options
    from dws_on_csm.runner.run import run
    from dws_on_csm.stages.verify import PROCEDURE

    if cancel:
        from dws_on_csm.commands.verify_cancel.command import work
        from dws_on_csm.stages.verify_cancel import STAGE

        unchanged = "Verified: cancelled jobs behave as documented."
        options = Options(
            "verify",
            json=json,
            verbose=verbose,
            words=["--cancel", *(["--all"] if all else [])],
            unchanged_text=unchanged,
            work=partial(work, every=all),
            proves=True,
        )
        sys.exit(run(site, (STAGE,), options))
    options = Options(task="verify", verify=True, json=json, verbose=verbose, changed_text="Verified.", proves=True)
    sys.exit(run(site, PROCEDURE, options))


UNDEPLOY = {
    "slurm": "first remove the plugin, its kubeconfig and BurstBufferType from the controllers (dws: external: always)",
    "rbac": "finally, remove the plugin's ClusterRole and ClusterRoleBinding (dws: external: always, but only this site's rights)",
    "keep-dws": "remove only what this Slurm cluster has; DWS stays for others that use it (dws: external: always)",
    "orphans": "delete orphaned Workflows, whose jobs have ended",
    "all-jobs": "refuse while any job is in Slurm, even one without a burst buffer",
    "plan": "show what would be removed; change nothing (also --check, --dry-run)",
}


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help=UNDEPLOY | {k: HELP[k] for k in ("hosts", "limit", "json", "yes", "verbose", "delete-persistent-storage")},
)
def undeploy(
    c: Context,
    hosts: str | bool | None = None,
    limit: str | None = None,
    slurm: bool = False,
    rbac: bool = False,
    keep_dws: bool = False,
    orphans: bool = False,
    all_jobs: bool = False,
    json: bool = False,
    yes: bool = False,
    plan: bool = False,
    verbose: bool = False,
    delete_persistent_storage: str = "",
) -> None:
    """Remove DWS from the cluster, unless a Workflow, a job or persistent storage still needs it.

    Where somebody else deploys DWS (dws: external), only the plugin, its access and BurstBufferType are removed. DWS stays.
    """
    site, deleting = _deleting(_site(hosts, limit), delete_persistent_storage)
    from dws_on_csm.runner.options import Options
    from dws_on_csm.runner.run import run
    from dws_on_csm.stages.undeploy import of_command

    given = {"slurm": slurm, "rbac": rbac, "orphans": orphans, "all_jobs": all_jobs, "keep_dws": keep_dws}
    words = [*(f"--{name.replace('_', '-')}" for name, on in given.items() if on), *deleting]
    chosen = of_command(site, **given)
    options = Options(
        "undeploy",
        plan,
        yes,
        json=json,
        verbose=verbose,
        words=words,
        changed_text=chosen.changed_text,
        unchanged_text=chosen.unchanged_text,
    )
    sys.exit(run(chosen.site, chosen.stages, options))


@task(
    optional=["hosts"],
    positional=["name"],
    auto_shortflags=False,
    help={"name": "show this run in detail (a run id)"} | {k: HELP[k] for k in ("hosts", "json")},
)
def journal(c: Context, name: str = "", hosts: str | bool | None = None, json: bool = False) -> None:
    """List the runs on this site: when, by whom, which task, its result, and what it changed on which host."""
    site = _site(hosts, None)
    from dws_on_csm.commands.history.journal import show

    sys.exit(show(site, name, json))


@task(
    optional=["hosts"],
    positional=["name"],
    auto_shortflags=False,
    help={"name": "a run id (default: the last run that changed anything)", "plan": PLAN}
    | {k: HELP[k] for k in ("hosts", "limit", "json", "yes", "verbose")},
)
def rollback(
    c: Context,
    name: str = "",
    hosts: str | bool | None = None,
    limit: str | None = None,
    json: bool = False,
    yes: bool = False,
    plan: bool = False,
    verbose: bool = False,
) -> None:
    """Restore the state from before a run."""
    site = _site(hosts, limit)
    from dws_on_csm.commands.history.rollback import rollback as back
    from dws_on_csm.runner.options import Options

    sys.exit(back(site, name, Options(task="rollback", plan=plan, yes=yes, json=json, verbose=verbose)))


@task(optional=["hosts"], auto_shortflags=False, help={k: HELP[k] for k in ("hosts", "limit", "json")})
def show(c: Context, hosts: str | bool | None = None, limit: str | None = None, json: bool = False) -> None:
    """Show each controller's certificate: name, issuer, end, and whether SlurmUser can use it."""
    site = _site(hosts, limit)
    from dws_on_csm.commands.certificates import show as table

    sys.exit(table(site, json))


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={
        "via": "who signs: ca, with the key of the CA on the master, or csr, the cluster. Default: access.via",
        "plan": PLAN,
    }
    | {k: HELP[k] for k in ("hosts", "limit", "json", "verbose")},
)
def rotate(
    c: Context,
    hosts: str | bool | None = None,
    limit: str | None = None,
    via: str = "",
    json: bool = False,
    plan: bool = False,
    verbose: bool = False,
) -> None:
    """Give each controller a new key and certificate; the plugin keeps working."""
    site = _site(hosts, limit)
    from dws_on_csm.commands import certificates
    from dws_on_csm.runner.run import run

    sys.exit(run(*certificates.rotation(site, via, plan=plan, json=json, verbose=verbose)))


@task(
    optional=["hosts"],
    positional=["name"],
    auto_shortflags=False,
    help={
        "name": "the common name to revoke (default: every name in use except the site file's access.common_name)",
        "plan": PLAN,
    }
    | {k: HELP[k] for k in ("hosts", "json", "yes", "verbose")},
)
def revoke(
    c: Context,
    name: str = "",
    hosts: str | bool | None = None,
    json: bool = False,
    yes: bool = False,
    plan: bool = False,
    verbose: bool = False,
) -> None:
    """Give the controllers the new access.common_name of the site file; remove all rights of the old name."""
    site = _site(hosts, None)
    from dws_on_csm.commands import certificates
    from dws_on_csm.runner.run import run

    sys.exit(run(*certificates.revocation(site, name, plan=plan, json=json, yes=yes, verbose=verbose)))


@task(
    positional=["file"],
    optional=["hosts"],
    auto_shortflags=False,
    help={"file": "the path of the bundle", "hosts": HELP["hosts"]},
)
def make_bundle(c: Context, file: str, hosts: str | bool | None = None) -> None:
    """Download everything that install needs from outside, into one file."""
    site = _site_file(hosts, None)
    from dws_on_csm.commands.bundle import make

    sys.exit(make(site, file))


@task(positional=["file"], auto_shortflags=False, help={"file": "the path of the bundle"})
def show_bundle(c: Context, file: str) -> None:
    """Check a bundle's checksums and list its contents."""
    from dws_on_csm.commands.bundle import show

    sys.exit(show(file))


@task(
    optional=["hosts", "yaml"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts", "json", "yes")}
    | {
        "yaml": "print this Workflow as YAML (bb12, NAMESPACE/bb12 or a job id); without a value, all of them",
        "delete": "delete this Workflow if it is orphaned, after a question; refused while its job lives",
    },
)
def workflows(
    c: Context,
    hosts: str | bool | None = None,
    yaml: str | bool | None = None,
    delete: str = "",
    json: bool = False,
    yes: bool = False,
) -> None:
    """List the Workflows with their jobs and mark orphaned ones."""
    site = _site(hosts, None)
    from dws_on_csm.commands import workflows as command
    from dws_on_csm.runner.run import run

    if delete:
        if yaml:
            command_line.exit_usage("Give --yaml or --delete, not both.")
        sys.exit(run(*command.deletion(site, delete, json=json, yes=yes)))
    sys.exit(command.show(site, yaml, json))


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts",)}
    | {
        "limit": "only the logs of these hosts (a node set); the master stands for DWS's pods",
        "job": "show only what concerns this job",
        "since": "how far back: 30s, 10m, 2h, 1d, or a time (2026-01-31T12:00)",
        "follow": "follow new lines until Ctrl-C",
        "all": "show also the lines `Reconciling Workflow` of DWS's controller, which say nothing",
    },
)
def logs(
    c: Context,
    hosts: str | bool | None = None,
    limit: str | None = None,
    job: str | None = None,
    since: str = "10m",
    follow: bool = False,
    all: bool = False,  # the option's name
) -> None:
    """Show the log lines of the plugin and of DWS, merged by time."""
    site = _site(hosts, limit)
    from dws_on_csm.commands.logs.command import logs as show

    sys.exit(show(site, job, since, follow, all))


@task(
    optional=["hosts"],
    auto_shortflags=False,
    help={k: HELP[k] for k in ("hosts", "json")}
    | {
        "limit": "report only these hosts (a node set)",
        "archive": "write a support archive to this file (.tar.gz); secrets are redacted",
        "metrics": "write metrics for node_exporter's textfile collector to this file (.prom)",
        "verbose": "show findings that follow from another one as well, with their fixes",
        "v": "the same as --verbose",
        "bundle": "the former name of --archive",
    },
)
def doctor(
    c: Context,
    hosts: str | bool | None = None,
    limit: str | None = None,
    archive: str | None = None,
    metrics: str | None = None,
    json: bool = False,
    verbose: bool = False,
    v: bool = False,
    bundle: str | None = None,
) -> None:
    """Find what is wrong and show the fix for each finding; change nothing."""
    site = _site(hosts, limit)
    if bundle:
        console.note("`doctor --bundle` is now called `doctor --archive`; the old name will be dropped.")
        archive = archive or bundle
    from dws_on_csm.commands.doctor.command import doctor as examine

    sys.exit(examine(site, archive, json, verbose or v, metrics))


@task(
    positional=["host"],
    optional=["hosts"],
    auto_shortflags=False,
    help={"host": "a host of the site file"} | {k: HELP[k] for k in ("hosts", "json")},
)
def look(c: Context, host: str, hosts: str | bool | None = None, json: bool = False) -> None:
    """Show the state of one host and how it differs from the wanted one; change nothing."""
    site = _only(_site_file(hosts, None), host)
    from dws_on_csm.commands.look import show

    sys.exit(show(site, json))


@task(
    positional=["host", "what"],
    optional=["hosts"],
    auto_shortflags=False,
    help={"host": "a host of the site file", "what": "a stage (plugin) or one of its steps (plugin.lua)"}
    | {k: HELP[k] for k in ("hosts", "json", "yes", "verbose")},
)
def repair(
    c: Context,
    host: str,
    what: str,
    hosts: str | bool | None = None,
    json: bool = False,
    yes: bool = False,
    verbose: bool = False,
) -> None:
    """Check a stage or step on one host, correct it, and verify the result."""
    site = _only(_site_file(hosts, None), host)
    from dws_on_csm.commands.repair import repaired

    sys.exit(repaired(site, what, yes=yes, json=json, verbose=verbose))


@task
def demo(c: Context) -> None:
    """Boot a lab, install DWS on it, and show the Workflow of a job."""
    from lab.demo import demo as show
    from lab.tasks import errors

    with errors("demo"):
        sys.exit(show())


namespace = Collection(
    discover, install, plan, check, verify, undeploy, workflows, logs, doctor, journal, rollback, look, repair
)

certs = Collection("certs", rotate, revoke)
certs.add_task(show, default=True)
namespace.add_collection(certs)

bundles = Collection("bundle")
bundles.add_task(make_bundle, name="make")
bundles.add_task(show_bundle, name="show")
namespace.add_collection(bundles)

for commands in (namespace, certs, bundles):
    command_line.add_exit_codes(commands)

namespace.add_task(demo)

from lab.tasks import namespace as lab  # noqa: E402

namespace.add_collection(lab)
