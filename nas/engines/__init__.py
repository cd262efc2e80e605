"""A block's layers as one operation: C++ on a CPU, Triton on a GPU."""
