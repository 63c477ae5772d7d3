"""Training: batches, losses, the trainer, choosing on dev."""
