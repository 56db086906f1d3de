#include <math.h>

double pair_lj(double r)
{
    double r6 = pow(r, -6);
    return 4 * (r6 * r6 - r6);
}
