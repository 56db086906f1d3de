#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A ball on a spring: the energy tells how good the steps are. */
int main(int argc, char **argv)
{
    real x = 1, v = 0, dt = 0.01;
    int steps, i;

    if (argc < 3 || strcmp(argv[1], "mdrun")) {
        fprintf(stderr, "usage: gmx mdrun STEPS\n");
        return 2;
    }
    steps = atoi(argv[2]);
    v -= dt / 2 * x;
    for (i = 0; i < steps; i++) {
        x += dt * v;
        v -= dt * x;
    }
    v += dt / 2 * x;
    printf("%d bytes a number, %d steps, energy %.3f\n", (int)sizeof(real), steps, (double)(x * x + v * v) / 2);
    return fabs((double)(x * x + v * v) - 1) > 1e-3;
}
