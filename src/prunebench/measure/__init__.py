"""Measurements of a network: operations, parameters, latency and accuracy."""
