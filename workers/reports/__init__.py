"""What people are told of the fleet: findings of doctor, shared with the console."""
