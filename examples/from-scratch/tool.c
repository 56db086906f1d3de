#include <math.h>
#include <stdio.h>

int main(void)
{
    printf("alone with %.4f\n", sqrt(2));
    return 0;
}
