"""Types, settings and stores shared by all workers."""
