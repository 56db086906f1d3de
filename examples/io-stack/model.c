#include <netcdf.h>

int main(void)
{
    return nc_put("/tmp/out.nc", "temperature", 287.15) || nc_put("/tmp/out.nc", "pressure", 1013.25);
}
