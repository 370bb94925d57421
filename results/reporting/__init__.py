"""Tables, figures and an index of stored runs."""
