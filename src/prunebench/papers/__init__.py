"""Printed results of the six papers, compared with recomputed and measured results."""
