"""Routing, without I/O."""
