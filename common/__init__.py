"""What every worker knows."""
