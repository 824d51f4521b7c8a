"""What happened to a run, read from the evidence on the root."""
