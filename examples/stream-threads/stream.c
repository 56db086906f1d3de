#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE 100000
static double a[SIZE], b[SIZE], c[SIZE];
static int threads = 1;

static void *triad(void *number)
{
    long first = (long)number * SIZE / threads, last = ((long)number + 1) * SIZE / threads, i;
    for (i = first; i < last; i++)
        a[i] = b[i] + 3 * c[i];
    return 0;
}

int main(void)
{
    pthread_t thread[64];
    char *wanted = getenv("OMP_NUM_THREADS");
    double sum = 0;
    long i;

    if (wanted && atoi(wanted) > 0 && atoi(wanted) <= 64)
        threads = atoi(wanted);
    for (i = 0; i < SIZE; i++) {
        b[i] = 1;
        c[i] = 2;
    }
    for (i = 0; i < threads; i++)
        pthread_create(&thread[i], 0, triad, (void *)i);
    for (i = 0; i < threads; i++)
        pthread_join(thread[i], 0);
    for (i = 0; i < SIZE; i++)
        sum += a[i];
    printf("triad with %d threads: %.0f\n", threads, sum);
    return sum != 7.0 * SIZE;
}
