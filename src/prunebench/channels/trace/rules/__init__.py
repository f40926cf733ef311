"""How each operation changes the channels that pass through it."""
