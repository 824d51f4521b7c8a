"""Which run is next, claimed by whom, for how long."""
