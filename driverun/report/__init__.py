"""The page that shows a person how a run went."""
