"""Speed and cost, each figure beside its floor or its rival of the same run. `make bench`."""
