"""What pyinfra does: slurm.conf is this file. Its environment names the file and the folder."""

import os

from pyinfra.operations import files

files.put(name="slurm.conf", src=os.environ["CONF"], dest=f"{os.environ['FOLDER']}/slurm.conf", mode="644")
