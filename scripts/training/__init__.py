"""How the bundled language models are made: what they read, how they learn, what is measured."""
