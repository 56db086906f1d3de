int H5write(const char *path, const char *name, const double *values, int count);
