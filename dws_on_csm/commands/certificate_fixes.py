"""What to do about a controller's kubeconfig or certificate: the same words in `invoke doctor` and `invoke certs`."""

from __future__ import annotations

from dws_on_csm.config.site import Site
from dws_on_csm.runner import repeat

NEW_CERTIFICATE = "run `invoke certs.rotate`"
"""It has expired, expires soon, or is of another CA. A rotation tests each new certificate before it replaces the old one."""

NEW_NAME = "run `invoke install` to change it; then `invoke certs.revoke` removes all rights of the old name"
"""It is for another name than the site file's: a rotation keeps the name, and refuses."""


def new_kubeconfig(site: Site, host: str) -> str:
    """The fix for a kubeconfig on `host` that is missing or has no readable certificate."""
    return f"run `{repeat.repair(site, host, 'access')}`"


def rights(site: Site) -> str:
    """The fix for rights that the plugin lacks: the role and its binding are in the cluster."""
    return f"run `{repeat.repair(site, site.master.host.name, 'access')}`"
