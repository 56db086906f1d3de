#include <string.h>
#include <sys/time.h>
#include "mpi.h"

int MPI_Init(int *argc, char ***argv) { return MPI_SUCCESS; }
int MPI_Finalize(void) { return MPI_SUCCESS; }
int MPI_Comm_rank(MPI_Comm comm, int *rank) { *rank = 0; return MPI_SUCCESS; }
int MPI_Comm_size(MPI_Comm comm, int *size) { *size = 1; return MPI_SUCCESS; }
int MPI_Barrier(MPI_Comm comm) { return MPI_SUCCESS; }

int MPI_Get_processor_name(char *name, int *length)
{
    strcpy(name, "container");
    *length = strlen(name);
    return MPI_SUCCESS;
}

int MPI_Allreduce(const void *sent, void *received, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    memcpy(received, sent, (size_t)count * type);
    return MPI_SUCCESS;
}

double MPI_Wtime(void)
{
    struct timeval now;
    gettimeofday(&now, 0);
    return now.tv_sec + now.tv_usec * 1e-6;
}
