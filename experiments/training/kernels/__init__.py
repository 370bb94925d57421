"""The compiled kernels of linear-and-ReLU models, and the trainer that runs on them."""
