"""Timed work, in roles that never wait for one another."""
