"""Measures size, memory, latency and accuracy of a converted model against its baselines, and reports them."""
