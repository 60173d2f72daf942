"""Strict reading of specs, faults and knob settings; every error names place and remedy."""

from lab.config.experiment import read_experiment
from lab.config.fault import fault_problem, read_fault, read_faults
from lab.config.knobs import parse_settings

__all__ = ["fault_problem", "parse_settings", "read_experiment", "read_fault", "read_faults"]
