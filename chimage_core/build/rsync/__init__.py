"""RSYNC: what its options mean here, which files it takes, and the call of the host's rsync(1)."""
