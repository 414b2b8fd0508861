"""Other systems' own functions, run on one input: what the losses are compared with."""
