double step(double value) { return value / 2; }
