#include "bench.h"

int main(int argc, char **argv)
{
    double begin;
    int i;

    MPI_Init(&argc, &argv);
    begin = MPI_Wtime();
    for (i = 0; i < TIMES; i++)
        MPI_Barrier(MPI_COMM_WORLD);
    report("barrier", 0, MPI_Wtime() - begin);
    return MPI_Finalize();
}
