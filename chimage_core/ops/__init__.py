"""One module per verb: what front ends call. Request value in, result value out."""
