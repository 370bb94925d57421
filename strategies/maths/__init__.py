"""Pure functions of arrays that strategies stand on."""
