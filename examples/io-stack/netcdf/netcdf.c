#include <hdf5.h>
#include "netcdf.h"

int nc_put(const char *path, const char *variable, double value)
{
    return H5write(path, variable, &value, 1);
}
