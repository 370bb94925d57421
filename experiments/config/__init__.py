"""What a user asks for: the options of a run, grids of them, how both are written, and what is wrong with them."""
