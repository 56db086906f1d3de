#include <stdio.h>

/* A disc, as a portable pixmap: rendering without a display. */
int main(void)
{
    int x, y;
    printf("P1\n16 16\n");
    for (y = -8; y < 8; y++) {
        for (x = -8; x < 8; x++)
            printf("%d ", x * x + y * y < 40);
        printf("\n");
    }
    return 0;
}
