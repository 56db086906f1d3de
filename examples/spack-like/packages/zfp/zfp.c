#include "zfp.h"

int zfp_precision(int bits) { return bits > 32 ? 32 : bits; }
