"""what a search found: the outcome to expect of each pattern at a new seed, which one to take, and what was gained"""
