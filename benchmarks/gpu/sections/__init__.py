"""Sections of the measurements: one file each, whose ``measure`` runs in its own process."""
