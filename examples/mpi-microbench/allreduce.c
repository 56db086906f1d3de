#include "bench.h"

int main(int argc, char **argv)
{
    static double sent[128], received[128];
    double begin;
    int size, i;

    MPI_Init(&argc, &argv);
    for (size = 1; size <= 128; size *= 4) {
        begin = MPI_Wtime();
        for (i = 0; i < TIMES; i++)
            MPI_Allreduce(sent, received, size, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
        report("allreduce", size * 8, MPI_Wtime() - begin);
    }
    return MPI_Finalize();
}
