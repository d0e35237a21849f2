"""A CSM-like site in a box: real systemd hosts, Kubernetes, a registry and Slurm on one machine."""
