"""What the looks at the clone of DWS begin with: whether only root can write it, found once for all of them."""

from __future__ import annotations

from dws_on_csm.domain import names
from dws_on_csm.model import render
from dws_on_csm.model.step import StepContext


def text(ctx: StepContext) -> str:
    """Shell lines with the functions of templates/lib/git.sh and master/clone_checked.sh, in the folder of the clone if there is
    one. They only read."""
    return render.script("lib/as.sh", "lib/git.sh", "master/clone_checked.sh", clone=names.clone(ctx.site))
