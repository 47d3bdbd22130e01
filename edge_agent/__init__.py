"""Samples in, one explained alert a fault out. Begin with pipeline.py, then DESIGN.md."""
