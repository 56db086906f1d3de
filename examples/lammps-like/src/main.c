#include <math.h>
#include <stdio.h>
#include "installed.h"

double pair_lj(double r);

int main(void)
{
    char line[256];
    double r;

#ifdef PACKAGE_molecule
    printf("package: molecule\n");
#endif
    while (fgets(line, sizeof line, stdin))
        if (sscanf(line, "pair %lf", &r) == 1)
            printf("E(%.2f) = %.4f\n", r, pair_lj(r));
    return 0;
}
