"""prunebench: a benchmark of CNN pruning."""

__version__ = "0.1.0"
