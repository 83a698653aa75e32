"""Command line, receipts and console, on real servers."""
