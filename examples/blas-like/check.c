#include <stdio.h>

void dgemm(int n, const double *a, const double *b, double *c);

int main(void)
{
    static double a[2500], b[2500], c[2500];
    double trace = 0;
    int i;
    for (i = 0; i < 2500; i++) {
        a[i] = i / 50 == i % 50 ? 2 : 0;
        b[i] = i / 50 == i % 50 ? 3 : 1;
    }
    dgemm(50, a, b, c);
    for (i = 0; i < 50; i++)
        trace += c[51 * i];
    printf("trace = %g\n", trace);
    return trace != 300;
}
