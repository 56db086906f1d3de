unsigned adler(const char *text)
{
    unsigned a = 1, b = 0;
    while (*text) {
        a = (a + (unsigned char)*text++) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}
