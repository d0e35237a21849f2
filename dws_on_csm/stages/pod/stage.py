"""The stage `pod`: a slurmctld's pod mounts what the later stages write."""

from __future__ import annotations

from dws_on_csm.model.step import Stage
from dws_on_csm.stages.pod import mount

STAGE = Stage("pod", ("preflight",), (mount.STEP,))
