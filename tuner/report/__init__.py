"""The report: tables (rich), figures (matplotlib) and the live display. Draws, never computes and never prints."""
