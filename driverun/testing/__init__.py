"""Doubles that ship with driverun, for its tests and for yours."""
