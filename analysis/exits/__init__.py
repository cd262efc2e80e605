"""How right a network is at each of its exits, and what it saves where easy images leave early."""
