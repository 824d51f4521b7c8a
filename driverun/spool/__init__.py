"""The language that runner and training process speak through a local folder."""
