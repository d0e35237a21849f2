"""The plugin and slurmctld."""
