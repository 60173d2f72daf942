"""One file a format: see `lab.report.exports`."""
