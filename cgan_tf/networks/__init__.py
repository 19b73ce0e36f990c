"""Pure architectures: layers and shapes, no training."""
