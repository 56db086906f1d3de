#include <stdio.h>
#include <mpi.h>

int main(int argc, char **argv)
{
    int rank, size, sum, one = 1;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0)
        printf("the ring has %d of %d\n", sum, size);
    return MPI_Finalize();
}
