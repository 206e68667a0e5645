"""The claims of both papers, one function each. `python -m paper` tests them."""

import support  # noqa: F401  before torch: see support/__init__.py
