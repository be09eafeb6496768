"""The objective, the loop, and what is saved on the way."""
