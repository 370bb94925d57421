"""What local training minimises, one file a loss. The file's name is its name on the command line and in grids."""
