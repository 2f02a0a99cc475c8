"""Random torch networks, and the check that the engine computes what torch computes, with the same bytes everywhere."""
