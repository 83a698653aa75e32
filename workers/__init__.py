"""Every process that we run."""
