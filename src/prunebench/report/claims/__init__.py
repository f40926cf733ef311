"""The papers' claims as tests on stored runs: an effect, its interval over seeds, and a verdict."""
