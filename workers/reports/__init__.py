"""Reports of the fleet for people: findings of doctor, shared with the console."""
