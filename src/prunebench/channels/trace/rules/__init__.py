"""What each operation does to the channels that pass through it."""
