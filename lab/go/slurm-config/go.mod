module lab/slurm-config

go 1.24.0
