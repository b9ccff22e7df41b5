"""Peers that the program talks to, as real processes: cameras, servers and broken networks."""
