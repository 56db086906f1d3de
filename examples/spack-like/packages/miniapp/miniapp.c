#include <stdio.h>
#include <zfp.h>

int main(void)
{
    printf("miniapp: precision %d\n", zfp_precision(64));
    return 0;
}
