#include <stdio.h>
#include <mpi.h>

#define TIMES 1000

static void report(const char *what, int size, double seconds)
{
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0)
        printf("%s %d bytes: %s\n", what, size, seconds >= 0 ? "measured" : "clock runs backwards");
}
