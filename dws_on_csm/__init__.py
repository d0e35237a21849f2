"""dws-on-csm: DataWorkflowServices and its burst-buffer plugin on a CSM system, installed and kept right."""
