"""Pictures of patterns as SVG of our own, which follow the colours of the page and whose marks a script can find."""
