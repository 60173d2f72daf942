"""Faults: armed and disarmed over Toxiproxy's API; the embedded server that speaks it."""
