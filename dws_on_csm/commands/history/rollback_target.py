"""What a rollback has to reach, from the hosts' records and the present state; what stays as it is, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dws_on_csm.commands.history import former_state
from dws_on_csm.commands.history.host_record import HostRecord
from dws_on_csm.config.site import Site
from dws_on_csm.domain import certificates, names, slurm_conf
from dws_on_csm.model.snapshot import ABSENT, FileSnapshot, ObjectSnapshot, RollbackTarget, objects_and_templates
from dws_on_csm.runner.past_runs import PastRun
from dws_on_csm.stages.slurm import activate, slurmctld


@dataclass(frozen=True)
class AccessNow:
    """What decides whether a kubeconfig works: the cluster's CA (PEM), the plugin's binding, the revoked names."""

    ca: bytes
    binding: Any
    revoked: frozenset[str]


def target(
    site: Site,
    wanted: PastRun,
    runs: Sequence[PastRun],
    roles: Mapping[str, Sequence[str]],
    records: Mapping[str, HostRecord],
    now: Mapping[str, Any],
    access: AccessNow,
) -> tuple[RollbackTarget, list[str]]:
    """What to reach, and what stays as it is, in sentences. Raises former_state.HalfRemoved.

    wanted   the run before which everything was as it shall be again
    runs     all known runs
    records  the record of each host that responds
    now      the present state of DWS (see installed.read)
    """
    master = records[site.master.host.name]
    was = former_dws(site, wanted, runs, now)
    dws = former_state.dws_action(was, now)
    objects, sentences = former_state.object_targets(master, was, dws, access.binding, access.revoked)
    sentences += former_state.describe_dws(was, now)
    in_pods = [obj for obj in objects if belongs_to_a_pod(site, obj.path)]
    binding = next((obj.before for obj in objects if obj.path == former_state.BINDING), access.binding)
    side = _slurm_side(site, records, in_pods, replace(access, binding=binding))
    enabled = side.enabled
    renew = side.renew or any(enabled[name] for name in pods_without_kubeconfig(site, master))
    # the present kubeconfig may be for a name that loses its rights
    renew = renew or (former_state.loses_a_name(master, access.revoked) and any(enabled.values()))
    restored, templates = objects_and_templates([*(obj for obj in objects if obj not in in_pods), *in_pods])
    single = [obj for obj in restored if obj not in in_pods]
    if renew and (own := site.access.common_name) not in access.revoked:
        single = former_state.with_subject(single, own)
    namespaces = {
        host: kubeconfig_namespaces(site, records[host], side.files[host], renew and on)
        for host, on in enabled.items()
        if host in records
    }
    return RollbackTarget(
        run=wanted.id,
        dws=dws,
        files=side.files,
        things=single,
        enabled=enabled,
        slurm=side.changes,
        off=side.off,
        renew=renew,
        pods=[obj for obj in restored if obj in in_pods],
        templates=templates,
        roles=roles,
        version=was.version,
        spaces={host: (old, new) for host, (old, new) in namespaces.items() if old and new and old != new},
    ), [*sentences, *side.sentences]


@dataclass(frozen=True)
class _SlurmSide:
    """What a rollback does to the hosts' files, and so to Slurm; the fields as in RollbackTarget.

    changes    whether slurm.conf or the daemons change at all
    renew      whether a former kubeconfig cannot be restored where one is needed
    sentences  the files that stay as they are, and why
    """

    files: Mapping[str, Mapping[str, FileSnapshot]]
    enabled: Mapping[str, bool]
    changes: bool
    off: bool
    renew: bool
    sentences: Sequence[str]


def _slurm_side(
    site: Site, records: Mapping[str, HostRecord], in_pods: Sequence[ObjectSnapshot], access: AccessNow
) -> _SlurmSide:
    """`in_pods`: the objects of slurmctlds in pods, with what a Job renders; `access`: with the binding after the rollback."""
    conf = site.slurm.conf
    enabled = {
        host.name: _enabled(records.get(host.name), conf, in_pods if host.pod else ()) for host in site.controllers
    }
    of_hosts = {
        host: file_targets(site, host, record, enabled.get(host, False), access) for host, record in records.items()
    }
    files = {host: targets for host, (targets, _, _) in of_hosts.items()}
    read = (conf, f"{site.slurm.folder}/{names.PLUGIN_CONF}")
    return _SlurmSide(
        files,
        enabled,
        changes=any(path in read for targets in files.values() for path in targets),
        off=any(
            not on and enables_burst_buffer(records[host].conf or "") for host, on in enabled.items() if host in records
        ),
        renew=any(needs_new for _, _, needs_new in of_hosts.values()),
        sentences=[sentence for _, reasons, _ in of_hosts.values() for sentence in reasons],
    )


def former_dws(
    site: Site, wanted: PastRun, runs: Sequence[PastRun], now: Mapping[str, Any]
) -> former_state.FormerState:
    """The state of DWS before the run, which a rollback restores. Where somebody else deploys DWS, an unknown one: the rollback
    leaves DWS alone then."""
    if site.external:
        return former_state.FormerState()
    return former_state.before_run(wanted, runs, site.master.host.name, now)


def kubeconfig_namespaces(
    site: Site, record: HostRecord, targets: Mapping[str, FileSnapshot], renewed: bool
) -> tuple[str, str]:
    """The namespace in a controller's kubeconfig, now and after the rollback; "" where there is no kubeconfig."""
    restored = targets.get(names.KUBECONFIG)
    if restored is not None:
        return record.namespace, restored.space
    return record.namespace, site.access.namespace if renewed else record.namespace


def enables_burst_buffer(text: str) -> bool:
    """Whether a slurm.conf enables the burst buffer."""
    setting = slurm_conf.value(text, activate.KEY)
    return bool(setting and slurmctld.is_lua(setting.value))


def belongs_to_a_pod(site: Site, path: str) -> bool:
    """Whether a controller's pod is made of this object, or mounts it as its /etc/slurm."""
    namespaces = {host.pod.namespace for host in site.controllers if host.pod}
    kinds = ("configmaps", "secrets", "deployments", "statefulsets")
    return any(f"/namespaces/{namespace}/{kind}/" in path for namespace in namespaces for kind in kinds)


def pods_without_kubeconfig(site: Site, master: HostRecord) -> list[str]:
    """The pods whose kubeconfig was a Secret then: it cannot be restored, since no Secret's content is saved."""
    withheld = [path for path, record in master.objects.items() if (record["before"] or {}).get("withheld")]
    return [
        host.name
        for host in site.controllers
        if host.pod and any(f"/namespaces/{host.pod.namespace}/secrets/" in path for path in withheld)
    ]


def _enabled(record: HostRecord | None, conf: str, in_pods: Sequence[ObjectSnapshot] = ()) -> bool:
    """Whether a controller's restored slurm.conf enables the burst buffer; `in_pods`: the objects of a pod."""
    if record is None:
        return True
    for obj in in_pods:
        if obj.before and "slurm.conf" in obj.before.get("data", {}):
            return enables_burst_buffer(obj.before["data"]["slurm.conf"])
    was = record.files.get(conf)
    return enables_burst_buffer(
        was.text.decode(errors="surrogateescape") if was and was.text is not None else record.conf or ""
    )


def file_targets(
    site: Site, host: str, record: HostRecord, enabled: bool, access: AccessNow
) -> tuple[dict[str, FileSnapshot], list[str], bool]:
    """The files to restore on a host; those that stay and why, in sentences; whether kubeconfigs must be recreated."""
    files: dict[str, FileSnapshot] = {}
    sentences: list[str] = []
    needs_new = False
    needed = {f"{site.slurm.folder}/{names.PLUGIN_LUA}", f"{site.slurm.folder}/{names.PLUGIN_CONF}", names.KUBECONFIG}
    workarea = f"{site.master.workarea}/"
    for path, image in record.files.items():
        if host == site.master.host.name and (path.startswith(workarea) or image.image.startswith(workarea)):
            continue
        if path in needed and image.sum == ABSENT and enabled:
            sentences.append(f"{path} on {host} stays, although it did not exist before: slurmctld there needs it.")
        elif why := _unusable(image, access):
            name = "" if path == names.KUBECONFIG else f"{path} "
            sentences.append(f"The former kubeconfig {name}on {host} is not restored: {why}.")
            needs_new = needs_new or (enabled and path == names.KUBECONFIG)
        else:
            files[path] = image
    return files, sentences, needs_new


def _unusable(image: FileSnapshot, access: AccessNow) -> str:
    """Why a kubeconfig must not be restored, whatever its path; "" where it may, or the file is no kubeconfig."""
    if image.sum == ABSENT or (image.certificates is None and image.path != names.KUBECONFIG):
        return ""
    return next(filter(None, (_invalid(pem, access) for pem in image.certificates or (b"",))), "")


def _invalid(pem: bytes, access: AccessNow) -> str:
    """Why a certificate no longer works, or must not; "" where it works."""
    try:
        certificate, ours = certificates.read(pem), certificates.signed_by(pem, access.ca)
    except ValueError:
        return "its certificate cannot be read"
    name, bound = certificate.common_name, former_state.subjects(access.binding)
    if name in access.revoked:
        return f"{name} was revoked"
    if certificate.until <= datetime.now(UTC):
        return f"its certificate expired on {certificate.until:%Y-%m-%d}"
    if not ours:
        return "its certificate is not signed by the cluster's present CA"
    return f"{name} has no rights any more" if bound and name not in bound else ""
