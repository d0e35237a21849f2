"""What is known of Slurm, DWS and certificates. Pure."""
