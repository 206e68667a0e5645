"""The claims of both papers, one function each. `python -m paper` tests them."""
