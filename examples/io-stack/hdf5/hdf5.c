#include <stdio.h>
#include "hdf5.h"

int H5write(const char *path, const char *name, const double *values, int count)
{
    FILE *file = fopen(path, "a");
    int i;
    if (!file)
        return -1;
    fprintf(file, "dataset %s", name);
    for (i = 0; i < count; i++)
        fprintf(file, " %g", values[i]);
    fprintf(file, "\n");
    return fclose(file);
}
