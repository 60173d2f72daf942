"""What the limit of a cell is, proven by changing it; pure, but for its runner."""
