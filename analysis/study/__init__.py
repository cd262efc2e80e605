"""What distance explains inside each stratum: numbers, figures and sections."""
