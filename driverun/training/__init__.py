"""The training process: everything that runs beside the person's own script."""
