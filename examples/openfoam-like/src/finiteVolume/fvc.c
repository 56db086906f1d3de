/* One step of diffusion in one dimension. */
void fvc_laplacian(const double *t, double *next, int cells)
{
    int i;
    next[0] = t[0];
    next[cells - 1] = t[cells - 1];
    for (i = 1; i < cells - 1; i++)
        next[i] = t[i] + 0.25 * (t[i - 1] - 2 * t[i] + t[i + 1]);
}
