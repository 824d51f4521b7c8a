"""A root in a folder of Google Drive."""
