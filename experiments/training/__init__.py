"""What happens at a client: models, local training, and the client side of a run."""
