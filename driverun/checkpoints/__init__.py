"""Snapshots, committed to the root so that a later attempt can trust them."""
