"""What every endpoint shares: threads, limits, timings, errors, evidence."""
