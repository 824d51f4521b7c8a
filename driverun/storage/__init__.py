"""Bytes under paths, whatever keeps them."""
