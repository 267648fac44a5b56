"""What people need who run mailvane: figures, checks, an endpoint to try things with."""
