"""What is done by the clock, in roles that never wait for one another."""
