"""The papers' networks as tables: what every node reads, does and writes, without torch."""
