"""What was learned."""
