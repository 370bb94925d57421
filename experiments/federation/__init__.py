"""One run: data and options in, record out, and the rounds between."""
