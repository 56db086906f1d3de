#include <stdio.h>
#include <string.h>

#define CELLS 11

void fvc_laplacian(const double *t, double *next, int cells);

int main(void)
{
    double t[CELLS] = {0}, next[CELLS];
    int steps = 0, i;
    FILE *dictionary = fopen("system/controlDict", "r");

    if (!dictionary || fscanf(dictionary, "endTime %d;", &steps) != 1) {
        fprintf(stderr, "cannot read system/controlDict\n");
        return 1;
    }
    fclose(dictionary);
    t[CELLS - 1] = 100;
    for (i = 0; i < steps; i++) {
        fvc_laplacian(t, next, CELLS);
        memcpy(t, next, sizeof t);
    }
    printf("Time = %d, T in the middle = %.1f\nEnd\n", steps, t[CELLS / 2]);
    return 0;
}
