"""Real IM servers before the doors: `make doors`."""
