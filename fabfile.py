"""What `fab -H HOST` runs on one host: look, repair STAGE or STEP, logs."""

from dws_on_csm.commands.repair import namespace

__all__ = ["namespace"]
