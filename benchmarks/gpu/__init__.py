"""A kit that is packed here, carried to a machine with an NVIDIA GPU, and measures there."""
