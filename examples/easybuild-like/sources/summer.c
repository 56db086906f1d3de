#include <stdio.h>

unsigned adler(const char *text);

int main(int argc, char **argv)
{
    printf("%08x\n", adler(argc > 1 ? argv[1] : ""));
    return 0;
}
