"""The claims of the papers, one function each, in claims_*.py.

A claim takes the `Lab` and writes results/paper/<claim>.csv and .png. The first paragraph of its
docstring is its heading in RESULTS.md, and the second is the background. `python -m paper <claim>`
runs it, and `python -m paper` all.
"""

import support  # noqa: F401  before torch: see support/__init__.py
