"""Strict reading of specs, faults and knob settings; every error names place and remedy."""

from lab.spec.experiment import read_experiment
from lab.spec.fault import read_fault, read_faults
from lab.spec.knobs import parse_settings

__all__ = ["parse_settings", "read_experiment", "read_fault", "read_faults"]
