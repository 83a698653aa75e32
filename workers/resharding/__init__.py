"""Another number of shards for a fleet (`pushfleet reshard`)."""
