"""What to do about a controller's kubeconfig or certificate: the same words in `invoke doctor` and `invoke certs`."""

from __future__ import annotations

from dws_on_csm.config.site import Site
from dws_on_csm.domain import certificates
from dws_on_csm.runner import commands_to_paste
from dws_on_csm.stages.access import signing

NEW_CERTIFICATE = "run `invoke certs.rotate`"
"""It has expired, expires soon, or is of another CA. A rotation tests each new certificate before it replaces the old one."""


def new_certificate(pem: bytes, ca: bytes) -> str:
    """The fix for a certificate that ends, or has ended. One that ends with its CA needs a new CA first, unless `ca` has one that
    ends later: that signs the next one."""
    signer = certificates.signer(pem, ca)
    ends = [certificates.read(part).until for part in certificates.bundle(ca)]
    with_ca = signer is not None and signer.until <= certificates.read(pem).until
    return signing.RENEW_CA if signer and with_ca and signer.until >= max(ends) else NEW_CERTIFICATE


NEW_NAME = "run `invoke install` to change it; then `invoke certs.revoke` removes all rights of the old name"
"""It is for another name than the site file's: a rotation keeps the name, and refuses."""


def new_kubeconfig(site: Site, host: str) -> str:
    """The fix for a kubeconfig on `host` that is missing or has no readable certificate."""
    return f"run `{commands_to_paste.repair(site, host, 'access')}`"


INSTALL = "run `invoke install`"
"""The plugin logs in in another way than the site file wants."""

RIGHTS = "run `invoke install`"
"""SlurmUser lacks rights: the file may be of another owner, or the role or its binding wrong. An install corrects all of it."""
