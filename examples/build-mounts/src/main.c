#include <stdio.h>
#include <mpi.h>

double step(double value);

int main(int argc, char **argv)
{
    double value = 64;
    int i;

    MPI_Init(&argc, &argv);
    for (i = 0; i < 6; i++)
        value = step(value);
    printf("heat: %g\n", value);
    return MPI_Finalize();
}
