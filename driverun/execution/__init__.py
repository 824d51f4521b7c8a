"""The runner: one attempt of one run, from claim to outcome."""
