"""A slurmctld that runs in a pod."""
