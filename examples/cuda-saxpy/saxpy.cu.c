#include <stdio.h>
#include <cuda_runtime.h>

#define N 1000

static void saxpy(int n, float a, float *x, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = a * x[i] + y[i];
}

int main(void)
{
    static float x[N], y[N];
    void *dx, *dy;
    int i, devices;
    float sum = 0;

    cudaGetDeviceCount(&devices);
    for (i = 0; i < N; i++) {
        x[i] = 1;
        y[i] = 2;
    }
    cudaMalloc(&dx, sizeof x);
    cudaMalloc(&dy, sizeof y);
    cudaMemcpy(dx, x, sizeof x, cudaMemcpyHostToDevice);
    cudaMemcpy(dy, y, sizeof y, cudaMemcpyHostToDevice);
    saxpy(N, 3, dx, dy);
    cudaMemcpy(y, dy, sizeof y, cudaMemcpyDeviceToHost);
    for (i = 0; i < N; i++)
        sum += y[i];
    printf("saxpy on %d device: %.0f\n", devices, sum);
    return cudaFree(dx) + cudaFree(dy);
}
