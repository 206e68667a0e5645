"""What a first reading does not need. Each script runs as `python -m extras.NAME`."""
