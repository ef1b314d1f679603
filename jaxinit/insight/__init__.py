"""The effect of an initialization on the signal: gains, probe, calibration."""
