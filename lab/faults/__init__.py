"""Faults: on the network over Toxiproxy's API, and in the processes of a replica's parts."""
