"""The conformance suite of the transports: every way a server may answer, or not."""
