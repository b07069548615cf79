"""What the commands share: reading flags, a quiet start, exit codes, a training run, jobs in child processes."""
