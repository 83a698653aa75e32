"""Delivery, without I/O."""
