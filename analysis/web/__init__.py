"""The frame of a page: its styles, its one script, and the policy that allows nothing else."""
