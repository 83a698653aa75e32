"""Admission and breaker on a real server."""
