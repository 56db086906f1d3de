/* C = A B, square, by rows. Built twice, as a plain and as a blocked library. */
#ifndef BLOCK
#define BLOCK 1000000
#endif

void dgemm(int n, const double *a, const double *b, double *c)
{
    int i, j, k, begin, end;
    for (i = 0; i < n * n; i++)
        c[i] = 0;
    for (begin = 0; begin < n; begin += BLOCK) {
        end = begin + BLOCK < n ? begin + BLOCK : n;
        for (i = 0; i < n; i++)
            for (k = begin; k < end; k++)
                for (j = 0; j < n; j++)
                    c[i * n + j] += a[i * n + k] * b[k * n + j];
    }
}
