"""What comes from outside and becomes events: for each kind of source a module, each giving events to recording."""
