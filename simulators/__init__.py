"""The vendors' side, from the vendors' pages; imports nothing of ours."""
