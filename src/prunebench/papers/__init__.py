"""What the six papers print, and how it compares with recomputed and measured results."""
