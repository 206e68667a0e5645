"""What a first reading does not need. Each script runs as `python -m extras.NAME`."""

import support  # noqa: F401  before torch: see support/__init__.py
