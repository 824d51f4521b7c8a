"""Many files, moved in or out of the root and verified."""
