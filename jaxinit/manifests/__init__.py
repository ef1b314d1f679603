"""Records of what an initialization was, and the proof that it is the same."""
