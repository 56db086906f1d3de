int nc_put(const char *path, const char *variable, double value);
