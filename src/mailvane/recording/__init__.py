"""Recording: is the event wanted, is it clean; then into the queue, on disk before it is acknowledged."""
